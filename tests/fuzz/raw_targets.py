"""Targets of ingestion: a whole catalogue, an archive, the tables."""

from pathlib import Path

import numpy as np

from tests.fuzz import folders
from tests.fuzz.check import Target
from tfds_builder import tables
from tfds_builder.archives import RawLayoutError, open_zip
from tfds_builder.processing import process
from tfds_builder.raw import DamagedMemberError, open_catalogue

_SHORTER_SIDE = 16


def _catalogue(data: bytes, folder: Path) -> None:
    """A folder of tables, archives and pictures; all of it is read and processed."""
    folders.write(folders.unpack(data), folder)
    _read_all(open_catalogue(folder))


def _read_all(catalogue) -> None:
    assert len(catalogue.source_fingerprint) == 64
    for split in ("train", "test"):
        table = catalogue.table(split)
        assert len(set(table.name)) == len(table)
        assert np.isin(table.label, np.arange(catalogue.num_classes)).all()
        for row in range(len(table)):
            done = process(lambda row=row, split=split: catalogue.read_row(split, row), _SHORTER_SIDE)
            assert done.reason or done.data


def _archive(data: bytes, folder: Path) -> None:
    """A zip archive: members are read, and it is opened as a bundle."""
    path = folder / "bundle.zip"
    path.write_bytes(data)
    source = open_zip(path)
    for row, name in enumerate(source.paths):
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        try:
            assert len(source.read(row)) == source.sizes[row]
        except DamagedMemberError:
            continue
    _read_all(open_catalogue(path))


def _tables(data: bytes, folder: Path) -> None:
    """train.csv, test.csv and classes.csv, held against each other; or the classes of a folder tree."""
    files = folders.unpack(data)
    classes = tables.read_class_rows("classes.csv", files["classes.csv"]) if "classes.csv" in files else None
    if "folders" in files:
        names = files["folders"].decode("utf-8", "surrogateescape").split("\n")
        table = tables.class_table_of_folders("folders", names, names[:2], classes)
    else:
        train = tables.read_picture_rows("train.csv", files.get("train.csv", b""))
        test = tables.read_picture_rows("test.csv", files.get("test.csv", b""), is_test=True)
        tables.check_disjoint(train, test)
        table = tables.class_table(train, test, classes)
    assert len(set(table.names)) == len(table.names) == len(table.group)
    assert int(table.group.max()) < len(table.group_names)


TARGETS = {
    "raw_catalogue": Target(_catalogue, (RawLayoutError,)),
    "raw_archive": Target(_archive, (RawLayoutError,)),
    "raw_tables": Target(_tables, (RawLayoutError,), most_bytes=1 << 12),
}
