"""Files of strangers: one error that names the file and the way out, whatever is in them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from p10k_jax import files
from p10k_jax.files import read_json, read_object, read_parquet, write_json

SCHEMA = pa.schema({"name": pa.string(), "number": pa.int32(), "list": pa.list_(pa.float32())})
ROWS = {"name": ["a", "é"], "number": [1, 2], "list": [[0.5], []]}


def test_json_comes_back_as_it_was_written(tmp_path):
    value = {"a": [1, -(2**63), 2**64 - 1, 0.1, None, True], "ü😀": {"nan": float("inf")}}
    write_json(tmp_path / "x.json", value)
    assert read_object(tmp_path / "x.json", "") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        (b"\xff", "utf-8"),
        ("[" * 100_000, "recursion"),
        ('{"a": {"b": 1, "b": 2}}', "key 'b' stands there twice"),
        (f"[{10**400}]", "10000.* is an integer beyond 64 bits"),
        (f"[-{2**63 + 1}]", "beyond 64 bits"),
        ("[" + "9" * 5000 + "]", "beyond 64 bits"),
        (r'["\ud800"]', "surrogates not allowed"),
    ],
)
def test_json_that_would_be_misread_is_an_error_with_the_way_out(text, message, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=rf"(?s)x\.json is no JSON .*{message}.*; make it anew\.$") as error:
        read_json(path, "make it anew")
    assert len(str(error.value)) < 500


def test_a_whole_surrogate_pair_is_a_character(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps("😀"))
    assert read_json(tmp_path / "x.json", "") == "😀"


def test_no_object_no_file_and_a_file_without_end(tmp_path, monkeypatch):
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"x\.json holds no object in braces; make it anew\."):
        read_object(tmp_path / "x.json", "make it anew")
    with pytest.raises(ValueError, match=r"y\.json cannot be read \(No such file or directory\); make it anew\."):
        read_object(tmp_path / "y.json", "make it anew")
    monkeypatch.setattr(files, "_MOST_JSON_BYTES", 2)
    with pytest.raises(ValueError, match="3 bytes, more than the limit of 2"):
        read_json(tmp_path / "x.json", "")


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
