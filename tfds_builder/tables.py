"""Reads and checks the CSV tables of the raw layout; every error names file, row, value and the way out.

Row numbers are those a spreadsheet shows: the header is row 1.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence

import numpy as np

from tfds_builder.archives import RawLayoutError

MAX_ID = 9_999_999  # class ids; larger ones are product numbers, not ids
MAX_GROUP = 999_999  # group ids, which all have a name, also those in between
_INTEGER = re.compile(r"0*([0-9]{1,7})")


@dataclasses.dataclass(frozen=True, eq=False)
class PictureRows:
    """train.csv or a test CSV: columns name, label int64[N], group int64[N] (-1: none), usage, line (row number)."""

    file: str
    name: tuple[str, ...]
    label: np.ndarray
    group: np.ndarray
    usage: tuple[str, ...]
    line: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ClassRows:
    """classes.csv: class id -> (class name, group id or -1, group name or '')."""

    file: str
    rows: dict[int, tuple[str, int, str]]


@dataclasses.dataclass(frozen=True, eq=False)
class ClassTable:
    """Names of classes 0..C-1 and of groups 0..max, the group of each class int64[C]; in a tree folder -> class."""

    names: tuple[str, ...]
    group_names: tuple[str, ...]
    group: np.ndarray
    id_of_folder: dict[str, int] = dataclasses.field(default_factory=dict)


def read_picture_rows(file: str, data: bytes, *, is_test: bool = False, needs_group: bool = False) -> PictureRows:
    """Reads `name,class[,group]` (train) or `name,class[,Usage]` (test). Group and Usage may be absent.

    Args:
      file: how errors call the table.
      data: its bytes, UTF-8 with or without byte order mark, any line ends.
      is_test: a Usage column counts, a group column does not.
      needs_group: a missing group column is an error.
    """
    columns = {"name": True, "class": True, **({"usage": False} if is_test else {"group": needs_group})}
    names, labels, groups, usages, lines = [], [], [], [], []
    first_line: dict[str, int] = {}
    for line, row in read_columns(file, data, columns):
        name = row["name"]
        _check_file_name(file, line, name)
        if name in first_line:
            raise RawLayoutError(
                f"{file}, row {line}: name {name!r} is already in row {first_line[name]}. Names must be unique: "
                "take one row out."
            )
        first_line[name] = line
        names.append(name)
        labels.append(_id(file, line, "class", row["class"]))
        groups.append(_id(file, line, "group", row["group"]) if row.get("group") is not None else -1)
        usages.append(_usage(file, line, row.get("usage") or ""))
        lines.append(line)
    if not names:
        raise RawLayoutError(f"{file} has a header but no rows. Get the whole table.")
    return PictureRows(
        file, tuple(names), np.array(labels, np.int64), np.array(groups, np.int64), tuple(usages), tuple(lines)
    )


def read_class_rows(file: str, data: bytes) -> ClassRows:
    """Reads the optional `class,class_name[,group,group_name]`."""
    rows: dict[int, tuple[str, int, str]] = {}
    columns = {"class": True, "class_name": True, "group": False, "group_name": False}
    for line, row in read_columns(file, data, columns):
        label = _id(file, line, "class", row["class"])
        if label in rows:
            raise RawLayoutError(f"{file}, row {line}: class {label} is there twice. Take one row out.")
        for column in ("class_name", "group_name"):
            check_printable(f"{file}, row {line}", column, row.get(column) or "")
        group = _id(file, line, "group", row["group"]) if row.get("group") else -1
        rows[label] = (row["class_name"], group, row.get("group_name") or "")
    return ClassRows(file, rows)


def check_disjoint(train: PictureRows, test: PictureRows) -> None:
    """Raises RawLayoutError where a name is in both splits."""
    line_of = dict(zip(train.name, train.line, strict=True))
    for name, line in zip(test.name, test.line, strict=True):
        if name in line_of:
            raise RawLayoutError(
                f"{test.file}, row {line}: name {name!r} is also in {train.file}, row {line_of[name]}. A picture "
                "belongs to one split: take one row out, or rename the picture."
            )


def class_table(train: PictureRows, test: PictureRows, classes: ClassRows | None) -> ClassTable:
    """Checks the ids across the tables: no gap, one group a class, no test class unknown to train."""
    known = np.unique(train.label)
    if known[-1] != len(known) - 1:
        absent = np.setdiff1d(np.arange(int(known[-1])), known)
        row = int(np.argmax(train.label))
        raise RawLayoutError(
            f"{train.file}: class ids must run from 0 without a gap, but {len(absent):,} ids below the highest, "
            f"{known[-1]} (row {train.line[row]}), have no picture; first: {', '.join(map(str, absent[:5]))}. A class "
            "without training pictures cannot be learned: number the classes anew."
        )
    if (test.label > known[-1]).any():
        row = int(np.argmax(test.label > known[-1]))
        raise RawLayoutError(
            f"{test.file}, row {test.line[row]}: class {test.label[row]} is out of range: {train.file} has classes "
            f"0..{known[-1]}. Add training pictures for it, or take its test rows out."
        )
    group, line_of_group = np.full(len(known), -1, np.int64), np.zeros(len(known), np.int64)
    for label, value, line in zip(train.label.tolist(), train.group.tolist(), train.line, strict=True):
        if line_of_group[label] and group[label] != value:
            raise RawLayoutError(
                f"{train.file}, row {line}: class {label} is in group {value}, but in group {group[label]} in row "
                f"{line_of_group[label]}. A class has one group: correct one of them."
            )
        if not line_of_group[label]:
            group[label], line_of_group[label] = value, line
    return _with_names(train.file, group, classes)


def class_table_of_folders(
    file: str, train: Sequence[str], test: Sequence[str], classes: ClassRows | None
) -> ClassTable:
    """The class table of a folder tree: ids follow the sorted folder names; groups come from classes.csv, else one."""
    folders = sorted(set(train))
    if unknown := sorted(set(test) - set(train)):
        raise RawLayoutError(
            f"{file}: class folder {unknown[0]!r} is in test/ but not in train/. Add training pictures for it, or take "
            "it out of test/."
        )
    for folder in folders:
        check_printable(file, "class folder", folder)
    ids = {folder: label for label, folder in enumerate(folders)}
    names = [folder.strip() for folder in folders]
    _check_unique(file, "class name", names)
    group = np.zeros(len(folders), np.int64)
    group_names = ("all",)
    if classes is not None:
        by_name = {name: (value, group_name) for name, value, group_name in classes.rows.values()}
        if absent := sorted(set(names) - set(by_name)):
            raise RawLayoutError(f"{classes.file} has no row for class folder {absent[0]!r}. Add it.")
        for label, name in enumerate(names):
            group[label] = max(by_name[name][0], 0)
        group_names = _group_names(classes.file, group, [by_name[name][1] for name in names])
    return ClassTable(tuple(names), group_names, group, ids)


def check_printable(where: str, what: str, text: str) -> None:
    """Raises RawLayoutError for control characters and bytes that are not UTF-8: the prepared dataset keeps text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RawLayoutError(f"{where}: {what} {text!r} is not valid UTF-8. Rename it.") from error
    if any(ord(character) < 32 or ord(character) in (127, 0x85, 0x2028, 0x2029) for character in text):
        raise RawLayoutError(f"{where}: {what} {text!r} holds a control character. Rename it.")


def _with_names(file: str, group: np.ndarray, classes: ClassRows | None) -> ClassTable:
    labels = range(len(group))
    if classes is None:
        if (group < 0).any():
            return ClassTable(tuple(map(str, labels)), ("all",), np.zeros(len(group), np.int64))
        return ClassTable(tuple(map(str, labels)), tuple(map(str, range(int(group.max()) + 1))), group)
    if sorted(classes.rows) != list(labels):
        odd = sorted(set(classes.rows) ^ set(labels))
        raise RawLayoutError(
            f"{classes.file} and {file} name different classes: {len(odd):,} are in one of them only, first "
            f"{', '.join(map(str, odd[:5]))}. Give each class of the training table one row."
        )
    for label in labels:
        told = classes.rows[label][1]
        if group[label] >= 0 and told >= 0 and told != group[label]:
            raise RawLayoutError(
                f"{classes.file}: class {label} is in group {told}, but {file} has it in group {group[label]}. A class "
                "has one group: correct one of them."
            )
    from_classes = np.array([max(classes.rows[label][1], 0) for label in labels], np.int64)
    group = np.where(group < 0, from_classes, group)
    names = [classes.rows[label][0] for label in labels]
    _check_unique(classes.file, "class name", names)
    return ClassTable(
        tuple(names), _group_names(classes.file, group, [classes.rows[label][2] for label in labels]), group
    )


def _group_names(file: str, group: np.ndarray, told: Sequence[str]) -> tuple[str, ...]:
    """One name a group id up to the highest: the told one, else the id."""
    names = {}
    for label, (value, name) in enumerate(zip(group.tolist(), told, strict=True)):
        if name and names.setdefault(value, name) != name:
            raise RawLayoutError(
                f"{file}: group {value} is called {names[value]!r} and, for class {label}, {name!r}. Give it one name."
            )
    complete = [names.get(value, str(value)) for value in range(int(group.max()) + 1)]
    _check_unique(file, "group name", complete)
    return tuple(complete)


def _check_unique(file: str, what: str, names: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for position, name in enumerate(names):
        if not name:
            raise RawLayoutError(f"{file}: {what} of {position} is empty. Give it a name.")
        if name in seen:
            raise RawLayoutError(
                f"{file}: {what} {name!r} is that of {seen[name]} and of {position}. Names must be unique: rename one."
            )
        seen[name] = position


def read_columns(file: str, data: bytes, columns: dict[str, bool]) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Yields (row number, {column: text}) for the wanted columns {name: required}; absent optional ones are None."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RawLayoutError(f"{file} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        position = _positions(file, header, columns)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) <= max(position.values()):
                raise RawLayoutError(
                    f"{file}, row {reader.line_num}: {','.join(cells)!r:.200} has {len(cells)} of {len(header)} "
                    "columns. Complete the row; if it is the last one, the file was cut short: get it again."
                )
            yield reader.line_num, {c: cells[position[c]].strip() if c in position else None for c in columns}
    except csv.Error as error:
        raise RawLayoutError(f"{file}, row {reader.line_num}: {error}. Save it as plain CSV.") from error


def _positions(file: str, header: list[str], columns: dict[str, bool]) -> dict[str, int]:
    """Where the wanted columns stand. Raises RawLayoutError where one is missing or there twice."""
    for column, required in columns.items():
        if required and column not in header:
            hint = ""
            if column == "class" and header == ["name"]:
                hint = (
                    " This is Kaggle's list of names without answers: put test_kaggletest.csv (name,class,Usage) here."
                )
            raise RawLayoutError(
                f"{file} has no column {column!r}; its header is {','.join(header)[:200] or 'empty'}. Wanted: "
                f"{','.join(columns)}.{hint}"
            )
        if header.count(column) > 1:
            raise RawLayoutError(f"{file} has column {column!r} twice, and which one counts is not known. Drop one.")
    return {column: header.index(column) for column in columns if column in header}


def _check_file_name(file: str, line: int, name: str) -> None:
    if not name or "/" in name or "\\" in name or name in (".", ".."):
        raise RawLayoutError(
            f"{file}, row {line}: name {name!r} must be a plain file name such as 1.jpg, without a path. Correct it; "
            "pictures are looked for at any depth below train/ or test/."
        )
    check_printable(f"{file}, row {line}", "name", name)


def _id(file: str, line: int, column: str, text: str) -> int:
    most = MAX_GROUP if column == "group" else MAX_ID
    match = _INTEGER.fullmatch(text)
    if match is None or int(match[1]) > most:
        raise RawLayoutError(
            f"{file}, row {line}: {column} {text!r:.99} is not an integer from 0 to {most:,}. Number the {column} ids "
            "from 0; names belong into classes.csv."
        )
    return int(match[1])


def _usage(file: str, line: int, text: str) -> str:
    usage = text.lower()
    if usage not in ("", "public", "private"):
        raise RawLayoutError(f"{file}, row {line}: Usage {text!r} is neither Public nor Private. Correct it.")
    return usage
