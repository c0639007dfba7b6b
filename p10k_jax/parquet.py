"""Parquet of whatever origin, held against a schema and against its own size."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


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
        if (count := _values(path)) > most:
            raise ValueError(f"{count:,} values in a file of {path.stat().st_size:,} bytes")
        with pq.ParquetFile(path) as file:
            if (names := file.schema_arrow.names) != schema.names:
                raise ValueError(f"it has columns {names!r:.500}, not {schema.names}")
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
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, pa.ArrowException) as error:
        raise ValueError(f"{path} is not the table that it should be ({error!s:.500}); {way_out}.") from error
    return table


# The most that our own tables have is 0.6 values a byte, and texts are as long as they are.
_MOST_VALUES_A_BYTE, _SLACK = 64, 1 << 20


def _values(path: Path) -> int:
    """Rows and values that the footer announces.

    It is read here: pyarrow's accessor of a column's metadata ends the process on some broken ones, by an exception of
    C++ that nothing catches.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or length + 8 > size:
            raise ValueError("it does not end as Parquet does")
        file.seek(size - 8 - length)
        footer = _Thrift(file.read(length)).struct()
    rows, groups = footer.get(3, 0), footer.get(4, [])
    columns = [column for group in groups for column in group.get(1, [])]
    return abs(rows) + sum(abs(column[3][5]) for column in columns if 3 in column)


class _Thrift:
    """Values in Thrift's compact protocol, structs as {field: value}.

    Raises ValueError where the bytes are none; they bound all that is made of them.
    """

    def __init__(self, data: bytes):
        self._data, self._position = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > 32:
            raise ValueError("its footer nests too deeply")
        found, field = {}, 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            field = field + delta if delta else self._integer()
            found[field] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):  # an element of a list of booleans, a byte
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind in (7, 8):  # a double, a text
            return self._take(8 if kind == 7 else self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            if count > len(self._data):
                raise ValueError("its footer is broken")
            return [self._value_or_struct(head & 15, depth) for _ in range(count)]
        return self._value_or_struct(kind, depth)

    def _value_or_struct(self, kind: int, depth: int) -> Any:
        if kind == 12:
            return self.struct(depth + 1)
        if kind in (9, 10) and depth > 32:
            raise ValueError("its footer nests too deeply")
        if kind in range(1, 11):
            return self._value(kind, depth + 1)
        raise ValueError("its footer is broken")

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        start, self._position = self._position, self._position + count
        if self._position > len(self._data):
            raise ValueError("its footer is cut short")
        return self._data[start : self._position]

    def _varint(self) -> int:
        value, shift = 0, 0
        while shift < 64:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError("its footer is broken")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


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
