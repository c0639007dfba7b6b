"""The comparison of finished runs: what it prints, and whom it refuses."""

import json
import re

import numpy as np
import pytest
import scipy.stats

from p10k_jax.compare import as_text, comparisons, read_runs
from p10k_jax.evaluation.files import write_evaluation
from tests.p10k_jax.evaluation.tables import predictions
from tests.runs import start


@pytest.fixture
def workdirs(tmp_path):
    rng = np.random.default_rng(0)
    rights = {name: rng.random(200) < share for name, share in {"a": 0.5, "b": 0.7, "c": 0.5}.items()}
    for name, right in rights.items():
        write_evaluation(tmp_path / name / "eval" / "test", predictions(right), classes=None, step=1)
    return rights, [tmp_path / name for name in rights]


def test_command_line(workdirs):
    rights, folders = workdirs
    process = start("compare", [f"--workdirs={','.join(map(str, folders))}", "--json"])
    output, _ = process.communicate(timeout=60)
    rows = json.loads(output)
    a, b = rights["a"], rights["b"]
    assert [row["run"] for row in rows] == [str(folder) for folder in folders]
    assert rows[0]["top1"] == a.mean()
    assert (rows[1]["only_base"], rows[1]["only_run"]) == ((a & ~b).sum(), (b & ~a).sum())
    assert rows[1]["difference"] == pytest.approx(b.mean() - a.mean())
    assert rows[1]["p"] == pytest.approx(scipy.stats.binomtest((a & ~b).sum(), (a != b).sum()).pvalue)
    lines = as_text(rows).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("run")
    assert lines[2].startswith(str(folders[1]))
    assert {len(line) for line in lines if "to" in line} == {len(lines[0])}


def test_refusals(workdirs, tmp_path):
    _, folders = workdirs
    command = f"Run: python -m p10k_jax.evaluate --workdir={folders[0]} --split=validation"
    with pytest.raises(ValueError, match=re.escape(command)):
        read_runs(folders, "validation")
    with pytest.raises(ValueError, match="at least two different runs"):
        read_runs([folders[0], folders[0]], "test")
    write_evaluation(tmp_path / "d" / "eval" / "test", predictions(np.ones(3) > 0), classes=None, step=1)
    with pytest.raises(ValueError, match=r"d has 3 images, .*a has 200"):
        read_runs([folders[0], tmp_path / "d"], "test")
    assert len(comparisons(read_runs(folders, "test"))) == 3
