"""Parquet of strangers: one error that names the file and the way out, and no memory for what is not there."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from p10k_jax.parquet import read_parquet

SCHEMA = pa.schema({"name": pa.string(), "number": pa.int32(), "list": pa.list_(pa.float32())})
ROWS = {"name": ["a", "é"], "number": [1, 2], "list": [[0.5], []]}


def written(tmp_path, columns=ROWS, schema=SCHEMA, **how):
    pq.write_table(pa.table(columns, schema=schema), tmp_path / "x.parquet", **how)
    return tmp_path / "x.parquet"


def test_a_table_comes_back_with_its_metadata(tmp_path):
    path = written(tmp_path, schema=SCHEMA.with_metadata({"step": "7"}))
    table = read_parquet(path, SCHEMA, "")
    assert table.to_pydict() == ROWS
    assert table.schema.metadata[b"step"] == b"7"
    assert table.schema.remove_metadata() == SCHEMA


@pytest.mark.parametrize(
    ("columns", "kinds", "message"),
    [
        ({"name": ["a"]}, {"name": pa.string()}, r"has columns \['name'\], not"),
        (ROWS | {"number": ["one", "two"]}, {"number": pa.string()}, "Failed to parse"),
        (ROWS | {"number": [2**40, 0]}, {"number": pa.int64()}, "not in range"),
        (ROWS | {"number": [None, 1]}, {}, "column number has an empty value"),
        (ROWS | {"list": [[None], []]}, {}, "column list has an empty value"),
    ],
)
def test_another_table_is_an_error_with_the_way_out(columns, kinds, message, tmp_path):
    kinds = {name: kinds.get(name, SCHEMA.field(name).type) for name in columns}
    path = written(tmp_path, columns, pa.schema(kinds))
    with pytest.raises(ValueError, match=rf"x\.parquet is not the table .*{message}.*; make it anew\.$"):
        read_parquet(path, SCHEMA, "make it anew")


def test_a_torn_table_is_an_error(tmp_path):
    path = written(tmp_path)
    data = path.read_bytes()
    for torn in (b"", data[:-20], data[:30] + bytes(20) + data[50:]):
        path.write_bytes(torn)
        with pytest.raises(ValueError, match=r"x\.parquet (is not the table|cannot be read)"):
            read_parquet(path, SCHEMA, "make it anew")


def test_millions_of_values_in_few_bytes_are_not_made_room_for(tmp_path):
    count = 20_000_000
    columns = {"number": np.zeros(count, np.int32)}
    path = written(tmp_path, columns, pa.schema({"number": pa.int32()}))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="40,000,000 values in a file of"):
        read_parquet(path, pa.schema({"number": pa.int32()}), "make it anew")


def test_one_text_a_hundred_thousand_times_is_not_made_room_for(tmp_path):
    names = pa.array(["a" * 10_000]).take(pa.array(np.zeros(100_000, np.int32)))  # a gigabyte
    path = written(tmp_path, {"name": names}, pa.schema({"name": pa.string()}))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="text without end in a file of"):
        read_parquet(path, pa.schema({"name": pa.string()}), "make it anew")


def test_metadata_that_would_end_the_process_is_an_error(tmp_path):
    """pyarrow's accessor of a column's metadata throws past Python here: histograms of a length that cannot be."""
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    refused = 0
    for position in range(footer, len(data) - 8):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        try:
            read_parquet(path, SCHEMA, "make it anew")
        except ValueError as error:
            refused += "x.parquet" in str(error)
    assert refused > 100
