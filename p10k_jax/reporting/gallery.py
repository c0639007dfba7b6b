"""Pictures for a page: mistakes with examples of both classes, kept beside the figures as `pictures.parquet`.

They are chosen and read once, when a split is evaluated; the page can be made again without the data.
"""

import base64
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from jaxtyping import Int

from p10k_jax.data.splits import Split
from p10k_jax.files import whole_file
from p10k_jax.parquet import read_parquet
from tfds_builder import pictures

FILE = "pictures.parquet"
MISTAKES, PAIRS, OF_A_PAIR, EXAMPLES = 24, 12, 3, 4
_SIDE = 144  # pixels; shown at up to 112 CSS pixels, some more for sharp screens
SCHEMA = pa.schema([("role", pa.string()), ("name", pa.string()), ("label", pa.int32()), ("jpeg", pa.binary())])


class Chosen(NamedTuple):
    """Which pictures a page shows of a split.

    Attributes:
        mistakes: Rows of the predictions table, the surest first, no ordered pair of classes twice.
        pairs: For each of the hardest confusions, rows of it.
        classes: Labels of which examples are shown.
    """

    mistakes: list[int]
    pairs: list[list[int]]
    classes: list[int]


def choose(table: pa.Table, confusions: Sequence[Mapping]) -> Chosen:
    """Chooses from a predictions table; `confusions` are those of its figures, hardest first."""
    labels = table["label"].to_numpy()
    predicted = np.array([row[0] for row in table["top5_labels"].to_pylist()])
    scores = np.array([row[0] for row in table["top5_scores"].to_pylist()])
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-scores[wrong], kind="stable")]
    of_pair: dict[tuple[int, int], list[int]] = {}
    for row in wrong.tolist():
        of_pair.setdefault((int(labels[row]), int(predicted[row])), []).append(row)
    mistakes = [rows[0] for rows in list(of_pair.values())[:MISTAKES]]
    pairs = [of_pair[one["label"], one["predicted"]][:OF_A_PAIR] for one in confusions[:PAIRS]]
    shown = mistakes + [row for rows in pairs for row in rows]
    classes = sorted({int(label) for row in shown for label in (labels[row], predicted[row])})
    return Chosen(mistakes, pairs, classes)


def write_gallery(
    folder: Path,
    chosen: Chosen,
    table: pa.Table,
    *,
    split: Split,
    index: Int[np.ndarray, " n"],
    train: Split,
    train_labels: Int[np.ndarray, " m"],
) -> None:
    """Reads the chosen pictures and writes `pictures.parquet`, whole or not at all.

    Args:
        folder: Of the evaluation.
        chosen: By `choose`, from `table`.
        table: The predictions.
        split: They are of.
        index: For each row of the table, the record of `split` that it is of.
        train: Where examples of a class come from; the first records of each.
        train_labels: Of its records.
    """
    names, labels = table["name"].to_pylist(), table["label"].to_pylist()
    roles = dict.fromkeys(chosen.mistakes, "mistake")
    roles |= {row: "pair" for pair in chosen.pairs for row in pair if row not in roles}
    wanted = [(role, split, int(index[row]), names[row], labels[row]) for row, role in roles.items()]
    for label in chosen.classes:
        records = np.flatnonzero(train_labels == label)[:EXAMPLES]
        wanted += [("example", train, int(record), "", label) for record in records]

    def read(one: tuple[str, Split, int, str, int]) -> tuple[str, str, int, bytes]:
        role, source, record, name, label = one
        example = source.read(record)
        return role, name or example.name, label, thumbnail(example.image)

    with ThreadPoolExecutor() as pool:
        read_rows = list(pool.map(read, wanted))
    columns = list(zip(*read_rows, strict=True)) or [[]] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    with whole_file(folder / FILE) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), temporary)


def thumbnail(data: bytes) -> bytes:
    """A small JPEG of a picture, its longer side 144 pixels; of one that no decoder reads, a grey square."""
    try:
        height, width = pictures.inspect(data).upright_shape
        scale = min(1.0, _SIDE / max(height, width))
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        image, _ = pictures.decode(data, min_height=height, min_width=width)
        image = pictures.resize(image, height, width)
    except pictures.UnreadablePictureError:
        image = np.full((_SIDE, _SIDE, 3), 128, np.uint8)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=80, colorsubsampling="420")


class Gallery(NamedTuple):
    """Pictures as `data:` addresses.

    Attributes:
        surest: Mistakes by name, the surest first.
        others: Further mistakes by name, of the hardest confusions.
        examples: Of each label.
    """

    surest: dict[str, str]
    others: dict[str, str]
    examples: dict[int, list[str]]


def read_gallery(folder: Path) -> Gallery:
    """Reads `pictures.parquet`; empty where there is none."""
    gallery = Gallery({}, {}, {})
    if not (folder / FILE).exists():
        return gallery
    for row in read_parquet(folder / FILE, SCHEMA, "evaluate anew").to_pylist():
        address = "data:image/jpeg;base64," + base64.b64encode(row["jpeg"]).decode()
        if row["role"] == "mistake":
            gallery.surest[row["name"]] = address
        elif row["role"] == "pair":
            gallery.others[row["name"]] = address
        else:
            gallery.examples.setdefault(row["label"], []).append(address)
    return gallery
