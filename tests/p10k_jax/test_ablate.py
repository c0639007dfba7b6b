"""A whole ablation through the real program: stopped in the middle, gone on with, extended, shared between machines."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from p10k_jax import ablate
from p10k_jax.ablate import Ablation, execute, listing, plan, split_arguments
from p10k_jax.ablation.children import Ended
from p10k_jax.ablation.runs import is_finished
from p10k_jax.evaluation.comparison import compare
from p10k_jax.evaluation.predictions import read_predictions
from p10k_jax.reporting.progress import Console
from p10k_jax.reporting.writers import read_metrics

FILE = "tests/ablation_of_two.py"

# The program in a process in which JAX has no device: its children, whose environment says otherwise, have.
PROGRAM = """
import runpy, sys, jax
jax.config.update("jax_platforms", "none_such")
try:
    runpy.run_module("p10k_jax.ablate", run_name="__main__", alter_sys=True)
finally:
    try:
        jax.devices()
    except RuntimeError:
        print("JAX has no device here", flush=True)
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, f"--config={FILE}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert "JAX has no device here" in output, output
    return output


def times(workdir):
    return {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file() and path.parts[-2] != "logs"}


def settings(data_dir):
    return [f"--config.data.data_dir={data_dir}"]


def planned(workdir, data_dir, **options) -> Ablation:
    return plan(FILE, None, settings(data_dir), workdir, **options)


def run_here(workdir, data_dir, **options):
    return execute(planned(workdir, data_dir, **options), Console(alone=True))


def rows_of(workdir):
    return list(csv.DictReader((workdir / "ablation.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def ablation(tiny_data, tmp_path_factory):
    """An ablation of one seed that was stopped in the middle and started again: its workdir, and what was said."""
    workdir = tmp_path_factory.mktemp("ablation")
    arguments = [f"--workdir={workdir}", "--seeds=1", *settings(tiny_data)]
    process = start(*arguments)
    deadline = time.monotonic() + 120
    while not read_metrics(workdir / "plain" / "seed0" / "metrics.jsonl"):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    stopped = finish(process), process.returncode
    states = [row["state"] for row in rows_of(workdir)]
    process = start(*arguments)
    return workdir, stopped, states, (finish(process), process.returncode)


def test_stopped_in_the_middle_and_gone_on_with(ablation, tiny_data):
    workdir, (said, code), states, (again, last_code) = ablation
    assert code == 128 + signal.SIGINT
    assert "Stopped by SIGINT in run 1 of 2: plain seed 0. The same command goes on from there." in said
    assert states == ["pending", "pending"]
    assert last_code == 1, "odd fails"
    steps = [row["step"] for row in read_metrics(workdir / "plain" / "seed0" / "metrics.jsonl") if "train/loss" in row]
    assert steps == [1, 2, 3, 4]
    assert is_finished(planned(workdir, tiny_data).mine[0], planned(workdir, tiny_data).judged)
    assert "run 1 of 2: plain seed 0: done" in again


def test_a_failed_run_does_not_stop_the_rest_and_is_told(ablation):
    workdir, _, _, (said, _) = ablation
    message = "batch_size=12 does not divide over the 8 batch shards"
    assert said.index("plain seed 0: done") < said.index("run 2 of 2: odd seed 0 failed")
    assert message in said
    assert message in (workdir / "logs" / "odd-seed0.log").read_text()
    summary = json.loads((workdir / "ablation.json").read_text())
    plain, odd = summary["variants"]
    assert (plain["name"], plain["runs"][0]["state"], odd["runs"][0]["state"]) == ("plain", "finished", "failed")
    assert odd["changes"] == [["batch_size", "16", "12"]]
    assert odd["difference"] is None
    assert message in odd["runs"][0]["message"]
    text = (workdir / "ablation.md").read_text()
    assert "| odd | 0 of 1 |" in text
    assert message in text
    assert summary["command"] in text


@pytest.mark.parametrize("cache", [None, "/elsewhere"])
def test_what_children_are_given(tiny_data, tmp_path, monkeypatch, cache):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    if cache:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache)
    given = []

    def run_child(module, arguments, *, environment, **_):
        given.append((module, arguments[-1], environment))
        return Ended(-signal.SIGKILL, ["the last line"])

    monkeypatch.setattr(ablate, "run_child", run_child)
    assert run_here(tmp_path, tiny_data, seeds=2) == 1
    environment = {"JAX_COMPILATION_CACHE_DIR": cache or str(tmp_path / "compiled")}
    folders = [f"--workdir={tmp_path / variant / f'seed{seed}'}" for seed in (0, 1) for variant in ("plain", "odd")]
    assert given == [("p10k_jax.train", folder, environment) for folder in folders]
    for variant in json.loads((tmp_path / "ablation.json").read_text())["variants"]:
        assert [run["state"] for run in variant["runs"]] == ["failed", "failed"]
        assert "out of memory" in variant["runs"][0]["message"]
        assert variant["runs"][0]["message"].endswith("the last line")


@pytest.mark.long
def test_extension_by_a_seed_and_a_table_of_the_predictions(ablation, tiny_data):
    workdir = ablation[0]
    before = times(workdir / "plain")
    assert run_here(workdir, tiny_data, seeds=2, variants=["plain"]) == 0
    after = times(workdir / "plain")
    assert {path: after[path] for path in before} == before
    assert (workdir / "plain" / "seed1" / "eval" / "test" / "predictions.parquet").exists()
    tables = [
        read_predictions(workdir / "plain" / f"seed{seed}" / "eval" / "test" / "predictions.parquet") for seed in (0, 1)
    ]
    tops = [np.mean([row["label"] == row["top5_labels"][0] for row in table.to_pylist()]) for table in tables]
    rows = {(row["variant"], row["seed"]): row for row in rows_of(workdir)}
    assert [float(rows["plain", seed]["top1"]) for seed in "01"] == tops
    assert rows["plain", "1"]["workdir"] == str(workdir / "plain" / "seed1")
    assert float(rows["plain", "0"]["hours"]) > 0
    facts = json.loads((workdir / "plain" / "seed0" / "run.json").read_text())
    assert int(rows["plain", "0"]["parameters"]) == facts["parameters"]
    [plain] = json.loads((workdir / "ablation.json").read_text())["variants"]
    assert plain["figures"]["top1"] == pytest.approx(np.mean(tops))
    assert plain["top1_range"] == [min(tops), max(tops)]
    assert plain["top1_interval"][0] <= np.mean(tops) <= plain["top1_interval"][1]


def test_started_again_it_repeats_nothing_and_shards_make_the_same_table(ablation, tiny_data, tmp_path):
    run_here(ablation[0], tiny_data, seeds=2, variants=["plain"])
    whole, shared = ablation[0], tmp_path / "shared"
    before = times(whole / "plain")
    log = (whole / "logs" / "plain-seed0.log").read_text()
    assert run_here(whole, tiny_data, seeds=2, variants=["plain"]) == 0
    assert times(whole / "plain") == before
    assert (whole / "logs" / "plain-seed0.log").read_text() == log
    expected = json.loads((whole / "ablation.json").read_text())
    # Two machines: what the second trains appears when the first has made its table.
    for number, states in ((1, ["finished", "pending"]), (2, ["finished", "finished"])):
        shutil.copytree(whole / "plain" / f"seed{number - 1}", shared / "plain" / f"seed{number - 1}")
        assert run_here(shared, tiny_data, seeds=2, variants=["plain"], shard=f"{number}/2") == 0
        assert [row["state"] for row in rows_of(shared)] == states
    moved = json.loads((shared / "ablation.json").read_text().replace(str(shared), str(whole)))
    assert moved == expected


def test_a_difference_is_that_of_the_predictions(ablation, tiny_data, tmp_path):
    """A second variant that trains, of the first one's runs: the table compares their predictions."""
    file = tmp_path / "file.py"
    file.write_text(Path(FILE).read_text().replace('"odd": {"batch_size": 12}', '"other": {"log.every.steps": 2}'))
    for variant, seed in (("plain", 0), ("other", 1)):
        folder = tmp_path / "W" / variant / "seed0"
        shutil.copytree(ablation[0] / "plain" / f"seed{seed}", folder)
        record = json.loads((folder / "config.json").read_text())
        record["given"]["seed"] = record["seed"] = 0
        (folder / "config.json").write_text(json.dumps(record))
    assert execute(plan(str(file), None, settings(tiny_data), tmp_path / "W", seeds=1), Console(alone=True)) == 0
    plain, other = json.loads((tmp_path / "W" / "ablation.json").read_text())["variants"]
    tables = [
        {0: read_predictions(tmp_path / "W" / name / "seed0" / "eval" / "test" / "predictions.parquet")}
        for name in ("plain", "other")
    ]
    result = compare(*tables)
    assert plain["difference"] is None
    assert other["difference"] == {
        "value": result.difference,
        "interval": list(result.interval),
        "p": result.p,
        "method": "one run a side",
    }
    assert f"{100 * result.difference:+.2f}" in (tmp_path / "W" / "ablation.md").read_text()


def test_a_folder_of_another_config_is_not_touched(ablation, tiny_data, tmp_path, capsys):
    shutil.copytree(ablation[0] / "plain" / "seed0", tmp_path / "plain" / "seed0")
    before = times(tmp_path / "plain")
    edited = plan(FILE, "steps=5", settings(tiny_data), tmp_path, seeds=1, variants=["plain"])
    assert "plain seed 0: fail: workdir=" in listing(edited)
    assert execute(edited, Console(sys.stdout, alone=True)) == 1
    assert times(tmp_path / "plain") == before
    assert "holds a run of another config:\n  duration.steps: 4 -> 5\nGive another" in capsys.readouterr().out
    assert [row["state"] for row in rows_of(tmp_path)] == ["failed"]


def test_dry_run(ablation, tiny_data):
    before = times(ablation[0])
    process = start(f"--workdir={ablation[0]}", "--seeds=3", "--dry_run", *settings(tiny_data))
    output = finish(process)
    assert process.returncode == 0
    assert "plain seed 0: nothing" in output
    assert "odd seed 0: train; failed before" in output
    assert f"--config={FILE}:variant=plain --config.data.data_dir={tiny_data} --config.seed=2" in output
    assert times(ablation[0]) == before


def test_another_checkpoint_or_crop_is_another_evaluation(ablation, tiny_data, tmp_path):
    shutil.copytree(ablation[0] / "plain", tmp_path / "plain")
    options = {"seeds": 1, "variants": ["plain"]}
    assert "plain seed 0: nothing" in listing(planned(tmp_path, tiny_data, **options))
    assert "plain seed 0: evaluate" in listing(planned(tmp_path, tiny_data, split="validation", **options))
    path = tmp_path / "plain" / "seed0" / "eval" / "test" / "metrics.json"
    figures = json.loads(path.read_text())
    for change in ({"crop": 0.5}, {"image_size": 64}, {"step": figures["step"] + 1}):
        path.write_text(json.dumps(figures | change))
        assert "plain seed 0: evaluate" in listing(planned(tmp_path, tiny_data, **options))


def test_arguments_are_split():
    argv = ["--workdir=W", "--config", "f.py:a=b:c", "--config.x=1", "--noconfig.y", "-config.z=2", "--seeds", "3"]
    assert split_arguments(argv) == ("f.py", "a=b:c", ["--config.x=1", "--noconfig.y", "-config.z=2"])
    with pytest.raises(ValueError, match=r"write it as --config.x=VALUE"):
        split_arguments(["--config=f.py", "--config.x", "3"])


@pytest.mark.parametrize(
    ("arg", "overrides", "options", "message"),
    [
        ("variant=odd", [], {}, r"choose with --variants=a,b"),
        (None, [], {"variants": ["even"]}, r"no variant 'even'. Known: plain, odd"),
        (None, [], {"seeds": 0}, r"--seeds=0: give at least 1"),
        (None, [], {"shard": "3/2"}, r"--shard=3/2: give i/n"),
        (None, [], {"checkpoint": "first"}, r"--checkpoint=first: give best, last or a step"),
        (None, ["--config.seed=3"], {}, r"seeds are what --seeds counts"),
        (None, ["--config.batch_size=8"], {}, r"sets what variant 'odd' varies \(batch_size\)"),
        (None, ["--config.eval.split="], {}, r"has no eval.split.*--checkpoint=last"),
        ("step=3", [], {}, r"Unknown config argument 'step'"),
    ],
)
def test_refusals_come_before_anything_starts(tmp_path, arg, overrides, options, message):
    with pytest.raises(ValueError, match=message):
        plan(FILE, arg, overrides, tmp_path, **options)
    assert not list(tmp_path.iterdir())
