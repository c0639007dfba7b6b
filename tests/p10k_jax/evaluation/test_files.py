import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from p10k_jax.data.classes import Classes
from p10k_jax.evaluation.figures import figures
from p10k_jax.evaluation.files import write_evaluation, write_table
from p10k_jax.evaluation.predictions import read_predictions
from tests.tables import table


def test_round_trip(tmp_path):
    folder = tmp_path / "eval" / "test"
    path = folder / "predictions.parquet"
    written = table([0, 1, 0], [[0, 1], [1, 0], [1, 0]], ["public", "private", "private"])
    classes = Classes(("a", "b"), np.zeros(2, np.int32), ("", ""), np.array([3, 9]))
    found = write_evaluation(folder, written, classes=classes, step=7, crop=0.5)
    assert json.loads((folder / "metrics.json").read_text()) == found
    assert found == figures(written, classes) | {"step": 7, "crop": 0.5}
    assert read_predictions(path).equals(written)
    assert read_predictions(path).schema.metadata == {b"step": b"7", b"crop": b"0.5"}
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.json", "predictions.parquet"]


def test_another_table_is_refused(tmp_path):
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "predictions.parquet")
    with pytest.raises(ValueError, match=r"has columns \['name'\]"):
        read_predictions(tmp_path / "predictions.parquet")


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    write_table(tmp_path / "a.parquet", pa.table({"x": [1]}), {})

    def full_disk(table, path):
        path.write_bytes(b"PAR1")
        raise OSError("no space left")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_table(tmp_path / "a.parquet", pa.table({"x": [2]}), {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    assert pq.read_table(tmp_path / "a.parquet")["x"].to_pylist() == [1]
