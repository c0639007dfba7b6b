"""The raw layout of Products-10K as checked tables: the one reader of raw files, shared by all builders.

`open_catalogue` finds the files (layouts.py), reads the tables, and checks everything that can be checked without
reading a picture, so that a build fails before it writes anything.
"""

import dataclasses
import functools
import hashlib
import math
import os
from pathlib import Path

import numpy as np

from tfds_builder import holdout, layouts, tables
from tfds_builder.archives import DamagedMemberError, RawLayoutError, Source, source_of_json
from tfds_builder.products10k import facts

__all__ = [
    "DEFAULT_TEST_PERCENT",
    "DamagedMemberError",
    "RawCatalogue",
    "RawLayoutError",
    "RawPictures",
    "SplitTable",
    "open_catalogue",
    "pictures_of_json",
]

DEFAULT_TEST_PERCENT = 20
_FIRST = 5  # names listed in an error


@dataclasses.dataclass(frozen=True, eq=False)
class SplitTable:
    """One row a picture, in the order of the CSV (of the path, in a folder tree).

    Attributes:
      name: N unique names, e.g. '1.jpg'; 'CLASS/1.jpg' or 'train/CLASS/1.jpg' in a folder tree.
      label: int64[N], class ids 0..num_classes-1.
      group: int64[N], group ids.
      usage: N strings: 'public' or 'private' where the test CSV has a Usage column, else ''.
      size: int64[N], bytes of the picture file.
    """

    name: tuple[str, ...]
    label: np.ndarray
    group: np.ndarray
    usage: tuple[str, ...]
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.name)

    def select(self, rows: np.ndarray) -> "SplitTable":
        """Only these rows, int64[K], in this order."""
        return SplitTable(
            name=tuple(self.name[row] for row in rows.tolist()),
            label=self.label[rows],
            group=self.group[rows],
            usage=tuple(self.usage[row] for row in rows.tolist()),
            size=self.size[rows],
        )


@dataclasses.dataclass(frozen=True, eq=False)
class RawPictures:
    """Some pictures of a catalogue, and of its sources no more than they need: small enough to be sent elsewhere.

    Attributes:
      table: one row a picture.
      sources: the folder and archives that hold them.
      places: int64[N, 2]: index into sources, row in that source.
    """

    table: SplitTable
    sources: tuple[Source, ...]
    places: np.ndarray

    def read_row(self, row: int) -> bytes:
        """The untouched bytes of a picture. Raises DamagedMemberError for a torn file."""
        source, source_row = self.places[row].tolist()
        return self.sources[source].read(source_row)

    def to_json(self) -> dict:
        """All of it; `pictures_of_json` is the way back."""
        columns = {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self.table).items()
        }
        return {
            "table": columns,
            "sources": [source.to_json() for source in self.sources],
            "places": self.places.tolist(),
        }


def pictures_of_json(value: dict) -> RawPictures:
    """The pictures that `to_json` wrote down."""
    columns = value["table"]
    return RawPictures(
        table=SplitTable(
            **{name: tuple(columns[name]) for name in ("name", "usage")},
            **{name: np.array(columns[name], np.int64) for name in ("label", "group", "size")},
        ),
        sources=tuple(map(source_of_json, value["sources"])),
        places=np.array(value["places"], np.int64).reshape(-1, 2),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class RawCatalogue:
    """A complete, consistent catalogue. Pickles without open files; each process opens its own.

    Attributes:
      manual_dir: where it lies.
      train: the training pictures (validation is drawn from them later).
      test: the test pictures.
      class_names: one unique name a class id; the id itself where there is no classes.csv.
      group_names: one unique name a group id up to the highest; unused ids keep the id as their name.
      class_group: int64[num_classes], the group of each class.
      sources: the folder and archives that hold the pictures.
      places: split -> int64[N, 2]: index into sources, row in that source.
    """

    manual_dir: str
    train: SplitTable
    test: SplitTable
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]
    class_group: np.ndarray
    sources: tuple[Source, ...]
    places: dict[str, np.ndarray]

    @property
    def num_classes(self) -> int:
        """Classes are 0..num_classes-1."""
        return len(self.class_names)

    @property
    def num_groups(self) -> int:
        """Groups in use; `len(group_names)` counts unused ids too."""
        return len(np.unique(self.class_group))

    def table(self, split: str) -> SplitTable:
        """The table of 'train' or 'test'."""
        if split not in ("train", "test"):
            raise ValueError(f"unknown raw split {split!r}; known: 'train', 'test'")
        return self.train if split == "train" else self.test

    def read(self, split: str, name: str) -> bytes:
        """The untouched bytes of a picture. Raises KeyError for an unknown name, DamagedMemberError for a torn file."""
        return self.read_row(split, self._rows[split][name])

    def read_row(self, split: str, row: int) -> bytes:
        """As read(), by position in the split's table."""
        source, source_row = self.places[split][row].tolist()
        return self.sources[source].read(source_row)

    def select(self, split: str, rows: np.ndarray) -> RawPictures:
        """Only the pictures in these rows, int64[K], of a split's table, in this order."""
        wanted = self.places[split][rows]
        used, source = np.unique(wanted[:, 0], return_inverse=True)
        places = np.stack([source, np.zeros_like(source)], axis=1)
        sources = []
        for number, index in enumerate(used.tolist()):
            here = np.flatnonzero(source == number)
            places[here, 1] = np.arange(len(here))
            sources.append(self.sources[index].select(wanted[here, 1]))
        return RawPictures(self.table(split).select(rows), tuple(sources), places)

    @functools.cached_property
    def _rows(self) -> dict[str, dict[str, int]]:
        return {split: {name: row for row, name in enumerate(self.table(split).name)} for split in ("train", "test")}

    @functools.cached_property
    def source_fingerprint(self) -> str:
        """SHA-256 (hex) over name, label, group, usage and bytes of every picture, and the class and group names.

        The same for every layout of the same files. No picture is read: two pictures of equal size may be exchanged.
        """
        digest = hashlib.sha256()
        for split in ("train", "test"):
            table = self.table(split)
            columns = zip(
                table.name, table.label.tolist(), table.group.tolist(), table.usage, table.size.tolist(), strict=True
            )
            for row in sorted(columns):
                digest.update("\t".join((split, *map(str, row), "\n")).encode())
        digest.update("\n".join(("classes", *self.class_names, "groups", *self.group_names)).encode())
        return digest.hexdigest()

    def __getstate__(self) -> dict:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)


def open_catalogue(
    manual_dir: str | os.PathLike, *, official: bool = False, test_percent: int | None = None, seed: int = 0
) -> RawCatalogue:
    """Opens and checks a catalogue; every layout of layouts.py is accepted.

    Args:
      manual_dir: folder with the raw files, or one archive that holds them all.
      official: assert every published fact of Products-10K (products10k/facts.py).
      test_percent: only for a single folder tree CLASS/*: how many percent of each class become test, rounded half
        up, at least 1 of a class with 2 pictures or more, never all. Default 20.
      seed: of that draw (holdout.py).

    Raises:
      RawLayoutError: something is missing, contradictory or not official; names file, row, value and the way out.
    """
    layout = layouts.find_layout(manual_dir)
    if layout.is_tree and official:
        raise RawLayoutError(
            f"{manual_dir} holds no train.csv. Products-10K's table lies beside train.zip on the owner's page and on "
            f"Kaggle; a folder tree of your own is built with {facts.OTHER_BUILDER}."
        )
    if layout.is_tree:
        catalogue = _open_tree(layout, manual_dir, test_percent, seed)
    else:
        if test_percent is not None:
            raise RawLayoutError(
                f"{manual_dir} brings its own test split; a config with 'test{test_percent}' is only for a folder tree "
                "CLASS/*.jpg. Leave it out of the config's name."
            )
        catalogue = _open_tables(layout, manual_dir, official)
    if official:
        _assert_official(catalogue)
    return catalogue


def _open_tables(layout: layouts.Layout, manual_dir: str | os.PathLike, official: bool) -> RawCatalogue:
    train_entry = layout.tables["train.csv"]
    train_rows = tables.read_picture_rows(layout.describe(train_entry), layout.read(train_entry), needs_group=official)
    test_entry = layout.tables.get("test_kaggletest.csv") or layout.tables.get("test.csv")
    if test_entry is None:
        raise RawLayoutError(
            f"{manual_dir} holds train.csv but neither test_kaggletest.csv (name,class,Usage) nor a test.csv with the "
            "classes (name,class). Put one beside train.csv."
        )
    test_rows = tables.read_picture_rows(layout.describe(test_entry), layout.read(test_entry), is_test=True)
    tables.check_disjoint(train_rows, test_rows)
    classes = tables.class_table(train_rows, test_rows, _read_classes(layout))
    places = {}
    for split, rows in (("train", train_rows), ("test", test_rows)):
        places[split] = _match(layout, split, rows, Path(manual_dir))
    return _catalogue(
        layout,
        manual_dir,
        names={"train": train_rows.name, "test": test_rows.name},
        labels={"train": train_rows.label, "test": test_rows.label},
        usages={"train": train_rows.usage, "test": test_rows.usage},
        classes=classes,
        places=places,
    )


def _read_classes(layout: layouts.Layout) -> tables.ClassRows | None:
    entry = layout.tables.get("classes.csv")
    return None if entry is None else tables.read_class_rows(layout.describe(entry), layout.read(entry))


def _match(layout: layouts.Layout, split: str, rows: tables.PictureRows, root: Path) -> np.ndarray:
    """Finds each row's picture: int64[N, 2]; file names may differ in case (1.JPG)."""
    by_name: dict[str, layouts.Entry] = {}
    for entry in layout.pictures[split]:
        name = entry.path.rsplit("/", 1)[-1]
        if name in by_name:
            raise RawLayoutError(
                f"{layout.describe(entry)} and {layout.describe(by_name[name])}: two pictures of {split} are called "
                f"{name!r}. Keep one."
            )
        by_name[name] = entry
    if not by_name:
        raise RawLayoutError(
            f"{rows.file} lists {len(rows.name):,} pictures, but {root} holds neither {split}.zip with pictures nor a "
            f"folder {split}/. Put {split}.zip beside the tables (archives inside archives are not opened)."
        )
    listed = set(rows.name)
    folded = {name.casefold(): name for name in by_name if name not in listed}
    found = [by_name.get(name) or by_name.get(folded.get(name.casefold(), "")) for name in rows.name]
    missing = [row for row, entry in enumerate(found) if entry is None]
    if missing:
        first = ", ".join(f"{rows.name[row]!r} (row {rows.line[row]})" for row in missing[:_FIRST])
        raise RawLayoutError(
            f"{rows.file}: {len(missing):,} of {len(found):,} rows have no picture in {split}: {first}. Get the whole "
            f"{split}.zip, or take the rows out of the table."
        )
    used: dict[int, str] = {}
    for name, entry, line in zip(rows.name, found, rows.line, strict=True):
        if used.setdefault(id(entry), name) != name:
            raise RawLayoutError(
                f"{rows.file}, row {line}: name {name!r} differs only in case from {used[id(entry)]!r}, and there is "
                "one picture for both. Take one row out."
            )
    extra = sorted(name for name, entry in by_name.items() if id(entry) not in used)
    if extra:
        first = ", ".join(map(repr, extra[:_FIRST]))
        raise RawLayoutError(
            f"{rows.file}: {len(extra):,} pictures of {split} have no row: {first}. Add rows for them, or take the "
            "pictures away."
        )
    return np.array([(entry.source, entry.row) for entry in found], np.int64).reshape(-1, 2)


def _open_tree(
    layout: layouts.Layout, manual_dir: str | os.PathLike, test_percent: int | None, seed: int
) -> RawCatalogue:
    has_test = bool(layout.pictures["test"])
    if has_test and test_percent is not None:
        raise RawLayoutError(
            f"{manual_dir} brings its own folder test/; leave 'test{test_percent}' out of the config's name."
        )
    depth = 1 if layout.pictures["train"][0].path.startswith("train/") else 0  # train/CLASS/… or CLASS/…
    folders = {split: [entry.path.split("/")[depth] for entry in layout.pictures[split]] for split in ("train", "test")}
    classes = tables.class_table_of_folders(str(manual_dir), folders["train"], folders["test"], _read_classes(layout))
    for entry in (*layout.pictures["train"], *layout.pictures["test"]):
        tables.check_printable(str(manual_dir), "file name", entry.path)
    entries, labels = {}, {}
    for split in ("train", "test"):
        order = sorted(range(len(folders[split])), key=lambda i, split=split: layout.pictures[split][i].path)
        entries[split] = [layout.pictures[split][i] for i in order]
        labels[split] = np.array([classes.id_of_folder[folders[split][i]] for i in order], np.int64)
    if not has_test:
        entries, labels = _draw_test(entries["train"], labels["train"], test_percent or DEFAULT_TEST_PERCENT, seed)
    names = {split: tuple(entry.path for entry in entries[split]) for split in entries}
    return _catalogue(
        layout,
        manual_dir,
        names=names,
        labels=labels,
        usages={split: ("",) * len(names[split]) for split in names},
        classes=classes,
        places={
            split: np.array([(entry.source, entry.row) for entry in entries[split]], np.int64).reshape(-1, 2)
            for split in entries
        },
    )


def _draw_test(
    entries: list[layouts.Entry], labels: np.ndarray, percent: int, seed: int
) -> tuple[dict[str, list[layouts.Entry]], dict[str, np.ndarray]]:
    def take(count: int) -> int:
        return min(max(math.floor(count * percent / 100 + 0.5), 1), count - 1)

    is_test = holdout.draw_holdout([entry.path for entry in entries], labels, take, seed=seed, purpose="test")
    if not is_test.any():
        raise RawLayoutError("every class has a single picture, so that none is left for testing; add pictures.")
    chosen = {"train": np.flatnonzero(~is_test), "test": np.flatnonzero(is_test)}
    return (
        {split: [entries[row] for row in rows] for split, rows in chosen.items()},
        {split: labels[rows] for split, rows in chosen.items()},
    )


def _catalogue(layout, manual_dir, *, names, labels, usages, classes, places) -> RawCatalogue:
    """Puts checked columns together; each of names, labels, usages and places maps 'train' and 'test'."""
    split_tables = {}
    for split in ("train", "test"):
        if not names[split]:
            raise RawLayoutError(f"{manual_dir}: the {split} split has no pictures. Add some.")
        size = np.array([layout.sources[source].sizes[row] for source, row in places[split].tolist()], np.int64)
        split_tables[split] = SplitTable(
            name=tuple(names[split]),
            label=labels[split],
            group=classes.group[labels[split]],
            usage=tuple(usages[split]),
            size=size,
        )
    return RawCatalogue(
        manual_dir=str(manual_dir),
        train=split_tables["train"],
        test=split_tables["test"],
        class_names=classes.names,
        group_names=classes.group_names,
        class_group=classes.group,
        sources=layout.sources,
        places=places,
    )


def _assert_official(catalogue: RawCatalogue) -> None:
    train, test = catalogue.train, catalogue.test
    wrong = facts.differences(train.name, train.label, train.group, test.name, test.label)
    if wrong:
        lines = "\n".join(f"  {line}" for line in wrong)
        raise RawLayoutError(
            f"{catalogue.manual_dir} is not the official Products-10K:\n{lines}\nGet the files again from the owner's "
            f"page or Kaggle; a catalogue of your own is built with {facts.OTHER_BUILDER}."
        )
