"""Faults that a run must survive, caused for real: what it says, how it ends, and what is then on the disk."""

import gc
import json
import os
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from p10k_jax.reporting.progress import Console
from p10k_jax.reporting.writers import MetricWriter, read_metrics
from p10k_jax.stopping import BAD_INPUT, FAILED, LostFiles, Stop
from p10k_jax.stopping import DIVERGED as DIVERGED_CODE
from p10k_jax.train import DIVERGED, plan, train
from p10k_jax.training.checkpoint import Checkpoints, UnreadableCheckpoint
from p10k_jax.training.divergence import Diverged
from tests.runs import flags, start, tiny_config

# Beside an array that cannot be read Orbax leaves others half read, whose callbacks then find no event loop.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def callbacks_have_ended():
    yield
    time.sleep(0.3)
    gc.collect()


def steps(workdir):
    return Checkpoints(workdir / "checkpoints", metric="top1", read_only=True).steps()


def losses(workdir):
    return [(row["step"], row["train/loss"]) for row in read_metrics(workdir / "metrics.jsonl") if "train/loss" in row]


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the undisturbed run's workdir, and its final state."""
    shutil.copytree(finished[0], tmp_path / "workdir")
    return tmp_path / "workdir", finished[1]


def largest_file(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 16
    path.write_bytes(data)


DAMAGE = {
    "a bit": lambda folder: flip(largest_file(folder / "default" / "d")),
    "cut short": lambda folder: os.truncate(largest_file(folder / "default" / "d"), 1000),
    "a file is gone": lambda folder: (folder / "default" / "manifest.ocdbt").unlink(),
    "no metrics": lambda folder: (folder / "metrics" / "metrics").write_text('{"top1": '),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(copied, tiny_data, capfd, damage):
    workdir, state = copied
    DAMAGE[damage](workdir / "checkpoints" / "30")
    again = train(plan(tiny_config(tiny_data), workdir), Console())
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), state)
    said = capfd.readouterr().err
    assert "checkpoint of step 30 in" in said
    assert f"It now lies in {workdir / 'checkpoints' / 'unreadable-30'}; the run goes on from step 27" in said
    assert (workdir / "checkpoints" / "unreadable-30").is_dir()
    assert {27, 30} <= set(steps(workdir))
    assert [step for step, _ in losses(workdir)] == list(range(1, 31))


def test_where_no_checkpoint_can_be_read_the_run_says_so_and_touches_nothing(copied, tiny_data):
    workdir, _ = copied
    for step in steps(workdir):
        if step != 30:
            shutil.rmtree(workdir / "checkpoints" / str(step))
    DAMAGE["cut short"](workdir / "checkpoints" / "30")
    process = start("train", flags(tiny_data, workdir))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == BAD_INPUT, output
    assert "error: the checkpoint of step 30 in" in output
    assert "There is no other; remove" in output
    # No traceback of the program; what Orbax still reads when its event loop has closed may print its own, or begin to.
    assert "p10k_jax/train.py" not in output
    assert (workdir / "checkpoints" / "30").is_dir()


def test_other_programs_name_a_damaged_checkpoint(copied):
    workdir, _ = copied
    DAMAGE["a bit"](workdir / "checkpoints" / "30")
    process = start("evaluate", [f"--workdir={workdir}", "--checkpoint=last"])
    output, _ = process.communicate(timeout=120)
    assert process.returncode == BAD_INPUT, output
    assert "error: the checkpoint of step 30 in" in output
    assert not (workdir / "eval").exists()


def test_a_disk_that_takes_no_checkpoint_costs_the_checkpoints_and_not_the_run(finished, tiny_data, tmp_path):
    workdir = tmp_path / "workdir"
    arguments = [*flags(tiny_data, workdir), "--config.data.residency=stream"]

    process = start("tests.held_back", ["small_files", "p10k_jax.train", *arguments])
    output, _ = process.communicate(timeout=180)
    assert process.returncode == FAILED, output
    assert "CHECKPOINT LOST: that of step 3: " in output
    assert "CHECKPOINT LOST: that of step 30: " in output
    assert "step 30/30" in output
    assert "error: the checkpoints of steps [3, 6, 9, 12, 15, 18, 21, 24, 27, 30] could not be written" in output
    assert losses(workdir) == losses(finished[0])
    assert steps(workdir) == []
    process = start("train", arguments)  # there is room again
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert losses(workdir) == losses(finished[0])
    assert {entry.name.isdigit() for entry in (workdir / "checkpoints").iterdir()} == {True}


def skip_where_permissions_bind_nobody(output: str) -> None:
    if "does not let go of capabilities" in output:
        pytest.skip("root of a system that keeps its capabilities: no folder is without write permission for it")


def test_lost_write_permission_costs_the_checkpoints_and_not_the_run(finished, tiny_data, tmp_path):
    workdir = tmp_path / "workdir"
    process = start("tests.held_back", ["permissions", "p10k_jax.train", *flags(tiny_data, workdir)])
    while not (workdir / "checkpoints" / "3").exists():
        if process.poll() is not None:
            output, _ = process.communicate()
            skip_where_permissions_bind_nobody(output)
            raise AssertionError(output)
        time.sleep(0.001)
    (workdir / "checkpoints").chmod(0o555)
    output, _ = process.communicate(timeout=180)
    (workdir / "checkpoints").chmod(0o755)
    assert process.returncode == FAILED, output
    assert "CHECKPOINT LOST: that of step 30: " in output
    assert "ermission denied" in output
    assert losses(workdir) == losses(finished[0])
    assert min(steps(workdir)) >= 3
    assert 30 not in steps(workdir)


def test_a_workdir_that_cannot_be_written_is_refused_before_anything_else(tiny_data, tmp_path):
    (tmp_path / "readonly").mkdir(mode=0o555)
    arguments = flags(tiny_data, tmp_path / "readonly" / "workdir")
    process = start("tests.held_back", ["permissions", "p10k_jax.train", *arguments])
    output, _ = process.communicate(timeout=120)
    skip_where_permissions_bind_nobody(output)
    assert process.returncode == BAD_INPUT, output
    assert f"{tmp_path / 'readonly'} cannot be written. Change its permissions, or give another." in output


def test_rows_that_cannot_be_written_are_said_once_and_not_the_end(tiny_data, tmp_path, capfd, monkeypatch):
    class Full(MetricWriter):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._file.close()
            self._file = Path("/dev/full").open("a")  # noqa: SIM115

    run = plan(tiny_config(tiny_data, **{"duration.steps": 4}), tmp_path / "workdir")
    monkeypatch.setattr("p10k_jax.train.MetricWriter", Full)
    with pytest.raises(LostFiles, match=r"rows of metrics.jsonl could not be written"):
        train(run, Console())
    assert capfd.readouterr().err.count("ARE NOT WRITTEN: [Errno 28] No space left on device") == 1
    assert 4 in steps(tmp_path / "workdir")


def test_a_diverging_run_stops_with_a_report_and_checkpoints_from_before(tiny_data, tmp_path):
    workdir = tmp_path / "workdir"
    hot = {"optimizer.learning_rate": 1e25, "optimizer.clip_norm": 0.0}
    every = {"checkpoint.every.percent": None, "checkpoint.every.steps": 1}
    process = start("train", flags(tiny_data, workdir, **hot, **every))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == DIVERGED_CODE, output
    assert "error: diverged at step " in output
    assert "Traceback" not in output
    told = json.loads((workdir / DIVERGED).read_text())
    assert told["step"] > told["last_checkpoint"]
    assert len(told["images"]) == 16
    assert set(told) == {"step", "reason", "metrics", "last_checkpoint", "images"}
    for row in (workdir / "metrics.jsonl").read_text().splitlines():
        json.loads(row, parse_constant=pytest.fail)
    assert told["last_checkpoint"] == max(steps(workdir), default=0)


def test_a_run_may_go_on_leaving_such_steps_out(tiny_data, tmp_path):
    workdir = tmp_path / "workdir"
    hot = {"optimizer.learning_rate": 1e25, "optimizer.clip_norm": 0.0, "duration.steps": 60}
    with pytest.raises(Diverged):
        train(plan(tiny_config(tiny_data, **hot), workdir), Console())
    with pytest.raises(Diverged, match="20 steps in a row were not finite and left out"):
        train(plan(tiny_config(tiny_data, **hot, not_finite="skip"), workdir), Console())
    skipped = [row["train/skipped"] for row in read_metrics(workdir / "metrics.jsonl") if "train/skipped" in row]
    assert sum(skipped) >= 19
    with pytest.raises(ValueError, match="not_finite='ignore' is unknown; known: stop, skip"):
        plan(tiny_config(tiny_data, not_finite="ignore"), tmp_path / "other")


def test_a_damaged_file_never_gives_other_numbers(copied, tiny_data):
    """Bits of the arrays' files, all over them: what can be read at all is what was written."""
    workdir, state = copied
    wanted = plan(tiny_config(tiny_data), workdir).program.state
    file = largest_file(workdir / "checkpoints" / "30" / "default" / "d")
    whole = file.read_bytes()
    refused = 0
    for place in np.linspace(0, len(whole) - 1, 12).astype(int):
        broken = bytearray(whole)
        broken[place] ^= 1 << (place % 8)
        file.write_bytes(broken)
        try:
            read = Checkpoints(workdir / "checkpoints", metric="top1", read_only=True).restore(30, wanted)
        except UnreadableCheckpoint:
            refused += 1
        else:
            jax.tree.map(np.testing.assert_array_equal, jax.device_get(read), state)
    assert refused > 6


def test_a_storage_that_hangs_at_the_start_is_not_waited_for(copied, tiny_data, monkeypatch):
    workdir, _ = copied
    monkeypatch.setattr("p10k_jax.train.restore_latest", lambda *_, **__: time.sleep(60))
    run = plan(tiny_config(tiny_data, **{"checkpoint.time_limit": 0.5}), workdir)
    stop = Stop()
    with pytest.raises(ConnectionError, match=r"has not answered for 0\.5 s"), stop.listening():
        train(run, Console(), stop)
    assert steps(workdir)[-1] == 30
