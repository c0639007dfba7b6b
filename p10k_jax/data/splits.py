"""A prepared TFDS split as records by index: any image-classification dataset stored as ArrayRecord."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from tfds_builder.base_builder import LABELS_FILE


@dataclasses.dataclass(frozen=True)
class Example:
    """One record; `image` holds the stored bytes of a picture file."""

    image: bytes
    label: int
    group: int
    name: str
    usage: str


@dataclasses.dataclass(frozen=True)
class _Records:
    """Records as `{feature: value}`, of features that hold one value each, as stored.

    TFDS reads features of any shape and type. That takes longer than the disk does, and holds the interpreter lock.
    """

    source: Sequence[bytes]
    features: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        stored = tf_example_pb2.Example.FromString(self.source[index]).features.feature
        return {name: _value(stored[name]) for name in self.features if name in stored}


def _value(feature) -> bytes | int | float:
    return getattr(feature, feature.WhichOneof("kind")).value[0]


@dataclasses.dataclass(frozen=True)
class Split:
    """A prepared split. Cheap to pickle: worker processes open the files themselves.

    Attributes:
        dataset: Dataset name for messages, for example `products10k/256`.
        name: Split in TFDS's notation, for example `train` or `train[:95%]`.
        num_classes: Number of labels; labels are 0..num_classes-1.
        records: Random access to `{feature: value}` with image bytes undecoded.
        image_feature, label_feature: Their names in this dataset.
    """

    dataset: str
    name: str
    num_classes: int
    records: Sequence[dict[str, Any]]
    image_feature: str
    label_feature: str

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: int) -> Example:
        """Record number `index`, 0 <= index < len(self). Datasets without names get `<split>/<index>`, group 0."""
        record = self.records[index]
        name = record.get("name", record.get("file_name", f"{self.name}/{index}".encode()))
        return Example(
            image=record[self.image_feature],
            label=int(record[self.label_feature]),
            group=int(record.get("group", 0)),
            name=name.decode() if isinstance(name, bytes) else str(name),
            usage=record.get("usage", b"").decode(),
        )


_BESIDE = ("name", "file_name", "group", "usage")  # what else `Split.read` uses where a dataset has it

# What stands in for `validation` and `train` in a dataset of TFDS that has no validation split. TFDS shuffles records
# when it writes them, so the tail of train is a random sample of it; datasets that forbid that are refused.
_WITHOUT_VALIDATION = {"train": "train[:95%]", "validation": "train[95%:]"}


def _is_ours(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether a builder of `tfds_builder` made the data."""
    return bool(builder.info.metadata) and "preparation" in builder.info.metadata


def data_fingerprint(builder: tfds.core.DatasetBuilder) -> str:
    """SHA-256 of the prepared data: of its content where the builder records that, else of its split sizes."""
    content = builder.info.metadata and builder.info.metadata.get("content_fingerprint")
    sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    return hashlib.sha256(json.dumps([builder.info.full_name, content or sizes], sort_keys=True).encode()).hexdigest()


def open_split(builder: tfds.core.DatasetBuilder, split: str) -> Split:
    """Opens a split of a prepared dataset.

    Args:
        builder: Prepared, in a random-access file format (ArrayRecord).
        split: A split name, or TFDS's slice notation.

    Raises:
        ValueError: no such split (the known ones are listed), an empty split, or no image or label feature.
    """
    info = builder.info
    name = split
    # A config of ours with holdout0 means what it says.
    if "validation" not in info.splits and not _is_ours(builder):
        name = _WITHOUT_VALIDATION.get(split, split)
        if name != split and info.disable_shuffling:
            raise ValueError(
                f"{builder.name} has no validation split, and its records are stored in order, so that no part of "
                "train is a fair sample. Set data.train_split='train[:100%]' and eval.split=''."
            )
    if any(part.split("[")[0] not in info.splits for part in name.split("+")):
        close = difflib.get_close_matches(split, list(info.splits), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{builder.name} has no split {split!r}.{hint} Known: {', '.join(info.splits)}.")
    image = _only(info.features, tfds.features.Image, "image", builder.name)
    label = _only(info.features, tfds.features.ClassLabel, "label", builder.name)
    source = builder.as_data_source(split=name, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    if len(source) == 0:
        raise ValueError(f"Split {name!r} of {builder.name} is empty.")
    records = _Records(source, (image, label, *_BESIDE))
    dataset = f"{builder.name}/{builder.builder_config.name}" if builder.builder_config else builder.name
    return Split(dataset, name, info.features[label].num_classes, records, image, label)


def split_labels(builder: tfds.core.DatasetBuilder, split: Split) -> np.ndarray:
    """The labels of all records, int32[N], in the split's order.

    Our builders store them beside the records; those of another dataset are read once, record by record.
    """
    if not has_stored_labels(builder, split):
        return _read_column(split, split.label_feature, range(len(split)))
    labels = np.concatenate([np.load(file)[first:last] for file, first, last in _label_files(builder, split)])
    if len(labels) != len(split):
        raise ValueError(
            f"{builder.data_dir} is damaged: {len(labels)} labels for {len(split)} records; build it anew."
        )
    return labels


def has_stored_labels(builder: tfds.core.DatasetBuilder, split: Split) -> bool:
    """Whether the labels lie beside the records, so that no picture is read for them."""
    return all(file.exists() for file, _, _ in _label_files(builder, split))


def _label_files(builder: tfds.core.DatasetBuilder, split: Split) -> list[tuple[Path, int | None, int | None]]:
    """The files of a split's labels, and from where to where it takes them."""
    parts = tfds.core.ReadInstruction.from_spec(split.name).to_absolute(builder.info.splits)
    folder = Path(builder.data_dir)
    return [(folder / LABELS_FILE.format(split=part.splitname), part.from_, part.to) for part in parts]


def share_records(builder: tfds.core.DatasetBuilder, first: Split, second: Split) -> bool:
    """Whether some record is in both splits of a dataset."""

    def stretches(split: Split) -> list[tuple[str, int, int]]:
        parts = tfds.core.ReadInstruction.from_spec(split.name).to_absolute(builder.info.splits)
        sizes = {part.splitname: builder.info.splits[part.splitname].num_examples for part in parts}
        return [
            (part.splitname, part.from_ or 0, sizes[part.splitname] if part.to is None else part.to) for part in parts
        ]

    return any(
        name == other and max(start, begin) < min(stop, end)
        for name, start, stop in stretches(first)
        for other, begin, end in stretches(second)
    )


def split_groups(builder: tfds.core.DatasetBuilder, split: Split) -> np.ndarray:
    """The groups of all records, int32[N], in the split's order; all 0 for a dataset that knows no groups.

    In the data of our builders a class has one group, so one record of each class is read; of another dataset, all.
    """
    if "group" not in builder.info.features:
        return np.zeros(len(split), np.int32)
    rows, place = np.arange(len(split)), slice(None)
    if _is_ours(builder):
        _, rows, place = np.unique(split_labels(builder, split), return_index=True, return_inverse=True)
    return _read_column(split, "group", rows)[place]


def _read_column(split: Split, feature: str, rows: Iterable[int]) -> np.ndarray:
    with ThreadPoolExecutor() as pool:
        return np.fromiter(pool.map(lambda row: int(split.records[int(row)][feature]), rows), np.int32)


def _only(features, kind: type, usual: str, dataset: str) -> str:
    """The feature of that kind: the one with the usual name, or the only one."""
    names = [name for name, feature in features.items() if isinstance(feature, kind)]
    if usual in names:
        return usual
    if len(names) != 1:
        raise ValueError(f"{dataset} is no image-classification dataset: its {kind.__name__} features are {names}.")
    return names[0]
