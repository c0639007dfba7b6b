"""Where the tables and the pictures of a raw catalogue lie: finds every layout in circulation, reads no picture.

Archives are mounted into one tree of virtual paths: `train.zip` and `test.zip` under `train/` and `test/` beside the
tables, any other archive (a bundle) at its own folder. What is found there decides:

- a `train.csv`: pictures are all below `train/` and `test/` beside it, however deep (`train/1.jpg`,
  `train/train/1.jpg`), and known by their file names;
- no table: a folder tree, either `train/CLASS/…` and perhaps `test/CLASS/…`, or `CLASS/…` alone.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tfds_builder.archives import RawLayoutError, Source, is_clutter, open_folder, open_zip

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
_SPLITS = ("train", "test")
_EXPECTED = (
    "Expected are train.csv, test_kaggletest.csv, train.zip and test.zip; or the folders train/ and test/ in place of "
    "the archives; or one archive that holds them all; or, for sku_catalogue, folders CLASS/*.jpg."
)


class Entry(NamedTuple):
    """One file: its virtual path, and where it is read."""

    path: str
    source: int
    row: int


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Where everything lies.

    Attributes:
      sources: the opened folder and archives.
      tables: 'train.csv', 'test_kaggletest.csv', 'test.csv', 'classes.csv' -> Entry, as far as they exist.
      pictures: 'train', 'test' -> entries; in a tree, paths start at the split's or the class's folder.
      is_tree: there is no train.csv; the class is a folder name.
    """

    sources: tuple[Source, ...]
    tables: dict[str, Entry]
    pictures: dict[str, list[Entry]]
    is_tree: bool

    def read(self, entry: Entry) -> bytes:
        """Bytes of one file. Raises DamagedMemberError."""
        return self.sources[entry.source].read(entry.row)

    def describe(self, entry: Entry) -> str:
        """Where a file lies, for messages."""
        return self.sources[entry.source].describe(entry.row)


def find_layout(manual_dir: str | Path) -> Layout:
    """Finds the tables and pictures below `manual_dir` (a folder, or one archive).

    Raises RawLayoutError where there is nothing, or where what is there can be read in two ways.
    """
    root = Path(manual_dir).expanduser()
    if not root.exists():
        raise RawLayoutError(f"There is no folder {root}. {_EXPECTED}")
    if root.is_file():
        bundle = open_zip(root)
        return _arrange([bundle], _entries(0, bundle, ""), root)
    folder = open_folder(root)
    sources: list[Source] = [folder]
    entries = _entries(0, folder, "")
    archives = [entry for entry in entries if entry.path.lower().endswith(".zip")]
    for entry in archives:
        name = entry.path.rsplit("/", 1)[-1].lower()
        if name in ("train.zip", "test.zip"):
            mount = entry.path[: -len(name)] + name.removesuffix(".zip")
            sources.append(open_zip(root / entry.path))
            # Where an archive and its unpacked folder lie side by side, the archive is whole and checked: it counts.
            entries = [other for other in entries if not other.path.startswith(mount + "/")]
            entries += _entries(len(sources) - 1, sources[-1], mount + "/")
    if not _is_complete(entries):
        for entry in archives:
            if entry.path.rsplit("/", 1)[-1].lower() not in ("train.zip", "test.zip"):
                parent = entry.path.rpartition("/")[0]
                sources.append(open_zip(root / entry.path))
                entries += _entries(len(sources) - 1, sources[-1], parent + "/" if parent else "")
    return _arrange(sources, entries, root)


def _entries(index: int, source: Source, prefix: str) -> list[Entry]:
    return [Entry(prefix + path, index, row) for row, path in enumerate(source.paths)]


def _is_picture(entry: Entry) -> bool:
    return entry.path.lower().endswith(PICTURE_SUFFIXES)


def _is_complete(entries: Sequence[Entry]) -> bool:
    """Whether the folder alone (with train.zip and test.zip) can be the catalogue, so that no bundle is looked into."""
    tables = [entry for entry in entries if entry.path.rsplit("/", 1)[-1].lower() == "train.csv"]
    pictures = [entry for entry in entries if _is_picture(entry)]
    if tables:
        tops = {split for entry in pictures for split in _SPLITS if split in entry.path.split("/")[:-1]}
        return tops == set(_SPLITS)
    return bool(pictures) and all(entry.source == 0 for entry in pictures)


def _arrange(sources: list[Source], entries: list[Entry], root: Path) -> Layout:
    entries = [entry for entry in entries if not is_clutter(entry.path)]
    tables = [entry for entry in entries if entry.path.rsplit("/", 1)[-1].lower() == "train.csv"]
    if not tables:
        return _arrange_tree(tuple(sources), entries, root)
    depth = min(entry.path.count("/") for entry in tables)
    tables = [entry for entry in tables if entry.path.count("/") == depth]
    if len(tables) > 1:
        raise RawLayoutError(
            f"{root} holds train.csv more than once ({tables[0].path} and {tables[1].path}): point to one catalogue."
        )
    base = tables[0].path[: -len("train.csv")]
    inside = [entry._replace(path=entry.path[len(base) :]) for entry in entries if entry.path.startswith(base)]
    return Layout(
        sources=tuple(sources),
        tables={**_tables(entries), **_tables(inside)},  # a test table may lie beside the bundle
        pictures={
            split: [entry for entry in inside if entry.path.startswith(split + "/") and _is_picture(entry)]
            for split in _SPLITS
        },
        is_tree=False,
    )


def _tables(entries: Sequence[Entry]) -> dict[str, Entry]:
    known = ("train.csv", "test_kaggletest.csv", "test.csv", "classes.csv")
    return {entry.path.lower(): entry for entry in entries if entry.path.lower() in known}


def _arrange_tree(sources: tuple[Source, ...], entries: list[Entry], root: Path) -> Layout:
    pictures = [entry for entry in entries if _is_picture(entry)]
    if not pictures:
        seen = sorted({entry.path.split("/")[0] for entry in entries})[:5]
        found = f"it holds {', '.join(seen)}" if seen else "it is empty"
        raise RawLayoutError(f"{root} holds no pictures and no train.csv ({found}). {_EXPECTED}")
    for entry in entries:
        if entry.path.rsplit("/", 1)[-1].lower() in ("test_kaggletest.csv", "test.csv"):
            raise RawLayoutError(f"{root} holds {entry.path} but no train.csv. {_EXPECTED}")
    base = ""
    while True:  # step into wrapping folders: mine/shop/CLASS/1.jpg
        tops = {entry.path[len(base) :].split("/")[0] for entry in pictures}
        shallowest = min(entry.path[len(base) :].count("/") for entry in pictures)
        if len(tops) > 1 or tops & set(_SPLITS) or shallowest < 2:
            break
        base += tops.pop() + "/"
    inside = [entry._replace(path=entry.path[len(base) :]) for entry in entries if entry.path.startswith(base)]
    pictures = [entry for entry in inside if _is_picture(entry)]
    folders = [entry.path.split("/")[:-1] for entry in pictures]
    # train/train/1.jpg is how train.zip is packed, not a class called train.
    classless = [folder in ([], ["train"], ["test"], ["train"] * 2, ["test"] * 2) for folder in folders]
    bare = next((entry for entry, is_bare in zip(pictures, classless, strict=True) if is_bare), None)
    if bare is not None:
        raise RawLayoutError(
            f"{root}: train.csv is missing, and picture {bare.path!r} lies in no class folder, so its class is not "
            f"known. {_EXPECTED}"
        )
    if "train" not in tops:
        if "test" in tops:
            raise RawLayoutError(f"{root}: there is a folder or archive test, but no train beside it. {_EXPECTED}")
        return Layout(sources, _tables(inside), {"train": pictures, "test": []}, is_tree=True)
    if other := sorted(tops - set(_SPLITS)):
        raise RawLayoutError(
            f"{root}: beside train/ there is folder {other[0]!r} with pictures, which is neither train nor test. Move "
            "its pictures into one of them, or take it away."
        )
    split_pictures = {split: [entry for entry in pictures if entry.path.split("/")[0] == split] for split in _SPLITS}
    return Layout(sources, _tables(inside), split_pictures, is_tree=True)
