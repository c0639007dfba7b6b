"""Files that appear whole or not at all, and readers of tables and JSON that trust none."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def write_text(path: Path, text: str, *, writer: str = "") -> None:
    """Replaces `path` by one rename after the text is on disk. See `write_bytes`."""
    write_bytes(path, text.encode(), writer=writer)


def write_bytes(path: Path, data: bytes, *, writer: str = "") -> None:
    """Replaces `path` by one rename after the bytes are on disk.

    Args:
        path: To write.
        data: All of it.
        writer: Name of the process, where several may write the same file at once: the last one wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".".join(filter(None, [path.name, writer, "incomplete"])))
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, floats in full precision."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, way_out: str) -> Any:
    """Reads a JSON file of whatever origin.

    Args:
        path: Of the file.
        way_out: What to do about one that cannot be read, the end of the error.

    Raises:
        ValueError: a file that cannot be opened, is no JSON, nests beyond what Python can follow, or holds what would
            be misread or could not be written again: a key twice, an integer beyond 64 bits, half a surrogate pair.
    """
    try:
        if (size := path.stat().st_size) > _MOST_JSON_BYTES:
            raise ValueError(f"{size:,} bytes, more than the limit of {_MOST_JSON_BYTES:,}")
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, parse_int=_integer, object_pairs_hook=_object)
        if _HALF_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}); {way_out}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}); {way_out}.") from error
    return value


def read_object(path: Path, way_out: str) -> dict[str, Any]:
    """As `read_json`, of a file that is to hold an object; ValueError where it holds anything else."""
    value = read_json(path, way_out)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no object in braces; {way_out}.")
    return value


def read_parquet(path: Path, schema: pa.Schema, way_out: str) -> pa.Table:
    """Reads a Parquet file of whatever origin.

    Args:
        path: Of the file.
        schema: The columns that it is to have, in order. None may hold a null.
        way_out: What to do about one that cannot be read, the end of the error.

    Raises:
        ValueError: a file that cannot be opened, is no Parquet, has other columns, a null, or more values or text than
            a file of its size has cause to hold: run lengths and dictionaries make a thousand million out of nothing.
    """
    try:
        texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_binary(field.type)]
        most = _MOST_VALUES_A_BYTE * path.stat().st_size + _SLACK
        with pq.ParquetFile(path) as file:
            if (names := file.schema_arrow.names) != schema.names:
                raise ValueError(f"it has columns {names!r:.500}, not {schema.names}")
            if (count := _values(file.metadata)) > most:
                raise ValueError(f"{count:,} values in a file of {path.stat().st_size:,} bytes")
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            table = file.read()
        if any(_text_bytes(table[name]) > most for name in texts):
            raise ValueError(f"text without end in a file of {path.stat().st_size:,} bytes")
        table = table.cast(schema.with_metadata(table.schema.metadata))
        table.validate(full=True)
        for name in schema.names:
            if _has_null(table[name]):
                raise ValueError(f"column {name} has an empty value")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}); {way_out}.") from error
    # RuntimeError: what Parquet's own checks throw past Arrow's.
    except (ValueError, KeyError, RuntimeError, pa.ArrowException) as error:
        raise ValueError(f"{path} is not the table that it should be ({error!s:.500}); {way_out}.") from error
    return table


# The most that our own tables have is 0.6 values a byte, and texts are as long as they are.
_MOST_VALUES_A_BYTE, _SLACK = 64, 1 << 20


def _values(metadata: pq.FileMetaData) -> int:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    counts = [group.column(number).num_values for group in groups for number in range(group.num_columns)]
    return sum(map(abs, counts)) + abs(metadata.num_rows)


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Bytes of a column's texts when every one is written out."""
    total = 0
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            lengths = pc.binary_length(chunk.dictionary)
            total += pc.sum(lengths.take(chunk.indices)).as_py() or 0
        else:
            total += pc.sum(pc.binary_length(chunk)).as_py() or 0
    return total


def _has_null(column: pa.ChunkedArray) -> bool:
    if column.null_count:
        return True
    lists = (pa.types.is_list(column.type), pa.types.is_fixed_size_list(column.type))
    return any(lists) and any(chunk.flatten().null_count for chunk in column.chunks)


_MOST_JSON_BYTES = 1 << 28
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"{text[:24]}… is an integer beyond 64 bits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"key {twice!r:.99} stands there twice")
    return found


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """For what is written piece by piece: gives another path, which becomes `path` by one rename at the end.

    Where the block raises, what was written goes away and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".incomplete")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
