"""What is known of the classes beside the pictures: the table `classes.csv` of a workdir.

With it a workdir can name what it predicts and tell head from tail without the data.
"""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int

from p10k_jax.data.splits import Split, has_stored_labels, split_groups, split_labels
from p10k_jax.files import write_text

FILE = "classes.csv"
_COLUMNS = ("label", "name", "group", "group_name", "train_images")


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes of a dataset, by label.

    Attributes:
        names: As the catalogue calls them: the `class` of Products-10K's CSVs, or the folder's name.
        groups: The group of each class, 0 where the dataset knows none.
        group_names: Of each class's group; empty texts where the dataset knows none.
        train_images: How many pictures of each the run was trained on; None where counting would mean reading them all.
    """

    names: tuple[str, ...]
    groups: Int[np.ndarray, " c"]
    group_names: tuple[str, ...]
    train_images: Int[np.ndarray, " c"] | None

    def __len__(self) -> int:
        return len(self.names)


def classes_of(builder: tfds.core.DatasetBuilder, train: Split) -> Classes:
    """The classes of a prepared dataset, counted in the split that a run is trained on."""
    features = builder.info.features
    names = tuple(features[train.label_feature].names)
    groups, group_names, counts = np.zeros(len(names), np.int32), ("",) * len(names), None
    if has_stored_labels(builder, train):
        labels = split_labels(builder, train)
        counts = np.bincount(labels, minlength=len(names))
        if "group" in features:
            groups[labels] = split_groups(builder, train)
            group_names = tuple(features["group"].names[group] for group in groups)
    return Classes(names, groups, group_names, counts)


def write_classes(folder: Path, classes: Classes) -> None:
    """Writes `classes.csv`: `label,name,group,group_name,train_images`, a row a class."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    counts = classes.train_images if classes.train_images is not None else [""] * len(classes.names)
    rows.writerows(
        zip(range(len(classes.names)), classes.names, classes.groups, classes.group_names, counts, strict=True)
    )
    write_text(folder / FILE, text.getvalue())


def read_classes(folder: Path) -> Classes:
    """Reads what `write_classes` wrote.

    Raises:
        ValueError: no such file, or not of that form.
    """
    path = folder / FILE
    if not path.exists():
        raise ValueError(f"{folder} holds no {FILE}; `python -m p10k_jax.evaluate --workdir={folder}` writes it.")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if [int(row["label"]) for row in rows] != list(range(len(rows))):
            raise ValueError("the labels do not count up from 0")
        if not all(isinstance(row[column], str) for row in rows for column in ("name", "group_name")):
            raise ValueError("a row is cut short")
        counts = [row["train_images"] for row in rows]
        return Classes(
            names=tuple(row["name"] for row in rows),
            groups=np.array([int(row["group"]) for row in rows], np.int32),
            group_names=tuple(row["group_name"] for row in rows),
            train_images=np.array(counts, np.int64) if all(counts) else None,
        )
    except (OSError, csv.Error, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is no table of classes: {error}.") from error
