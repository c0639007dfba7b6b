"""Whole runs whose workdir is in a bucket: killed, gone on with on another machine, evaluated."""

import os
import signal
import time

import jax
import numpy as np
import pytest

from p10k_jax.buckets import Bucket, opened
from p10k_jax.finished import open_run
from p10k_jax.reporting.writers import read_metrics
from p10k_jax.train import plan
from p10k_jax.training.checkpoint import Checkpoints
from tests.bucket_server import BUCKET
from tests.runs import flags, start, tiny_config

URL = f"gs://{BUCKET}/runs/w1"
# Orbax's clients leave connections, and their tasks, to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def wait_for(name, process, seconds=120.0):
    """Waits until the bucket has a file; fails if the process ends first."""
    deadline = time.monotonic() + seconds
    while name not in Bucket(URL).files():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def losses(rows):
    return [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]


def accuracies(rows):
    return [(row["step"], row["validation/top1"]) for row in rows if "validation/top1" in row]


@pytest.mark.long
def test_killed_and_resumed_from_an_empty_machine_is_bitwise_undisturbed(faults, finished, tiny_data, tmp_path):
    undisturbed, state = finished
    vars(faults).update(errors=0.003, cuts=0.003)
    arguments = flags(tiny_data, URL, **{"checkpoint.every.percent": 20.0})
    process = start("train", arguments, XDG_CACHE_HOME=str(tmp_path / "machine 1"))
    wait_for("checkpoints/12/_CHECKPOINT_METADATA", process)  # step 6 is complete, step 12 hardly
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    process = start("train", arguments, XDG_CACHE_HOME=str(tmp_path / "machine 2"))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "goes on after step" in output
    assert f"Everything lies in {URL}: config.json" in output

    faults.__init__()
    workdir = opened(URL, setting="workdir", writes=False).folder  # a machine of its own again
    rows, expected = (read_metrics(folder / "metrics.jsonl") for folder in (workdir, undisturbed))
    assert losses(rows) == losses(expected)
    assert accuracies(rows) == accuracies(expected)
    abstract = plan(tiny_config(tiny_data), undisturbed).program.state
    resumed = Checkpoints(workdir / "checkpoints", metric="top1", read_only=True).restore(30, abstract)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), state)
    assert not (workdir / "checkpoints").exists()
    assert open_run(workdir).step == open_run(undisturbed).step
    jax.tree.map(np.testing.assert_array_equal, open_run(workdir).weights(), open_run(undisturbed).weights())

    process = start("evaluate", [f"--workdir={URL}", "--nogallery"])
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert f"Predictions and figures lie in {URL}/eval/validation" in output
    assert {"eval/validation/metrics.json", "eval/validation/predictions.parquet"} < Bucket(URL).files().keys()


def test_what_cannot_start_writes_nothing(faults, tiny_data, tmp_path):
    process = start("train", flags(tiny_data, "gs://no-bucket/w"))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert "error: gs://no-bucket/w: there is no such bucket" in output
    assert not (tmp_path / "cache").exists()
