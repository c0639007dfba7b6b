"""What is stored of the pictures of one shard: the same examples in the building process and on a worker of Beam."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import tensorflow_datasets as tfds

from tfds_builder import processing, raw, summary


def features(
    shorter_side: int, num_classes: int | None = None, num_groups: int | None = None
) -> tfds.features.FeaturesDict:
    """The features of a stored example.

    Args:
      shorter_side: of the preparation; 0 for pictures as they are.
      num_classes: None where the names of the classes are set later.
      num_groups: as num_classes.
    """
    return tfds.features.FeaturesDict(
        {
            # Bytes go in as they are; the format only speaks of arrays, which are never given.
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg" if shorter_side else None),
            "label": tfds.features.ClassLabel(num_classes=num_classes),
            "group": tfds.features.ClassLabel(num_classes=num_groups),
            "name": tfds.features.Text(),
            "usage": tfds.features.Text(),
        }
    )


def examples(
    pictures: raw.RawPictures,
    split: str,
    shorter_side: int,
    *,
    tally: summary.Tally,
    pool: Executor,
    workers: int,
    advance: Callable[[], object] = lambda: None,
) -> Iterator[tuple[int, dict]]:
    """Yields (row, example) of the readable pictures, in order, and counts all of them.

    Args:
      pictures: those of one shard.
      split: to which they belong.
      shorter_side: as in processing.process.
      tally: counts each picture.
      pool: threads that process pictures.
      workers: how many they are.
      advance: called after each picture.
    """
    table = pictures.table

    def work(row: int) -> processing.Processed:
        return processing.process(lambda: pictures.read_row(row), shorter_side)

    for row, result in processing.ordered_map(work, range(len(table)), pool, workers):
        columns = {
            "name": table.name[row],
            "label": int(table.label[row]),
            "group": int(table.group[row]),
            "usage": table.usage[row],
        }
        tally.add(split, result=result, **columns)
        advance()
        if result.data is not None:
            yield row, {"image": result.data, **columns}
