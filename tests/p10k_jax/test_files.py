"""Files of strangers: one error that names the file and the way out, whatever is in them."""

import json

import pytest

from p10k_jax import files
from p10k_jax.files import read_json, read_object, write_json


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
