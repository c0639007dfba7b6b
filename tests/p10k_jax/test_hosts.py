"""Several processes on one run, for real: CPU devices that talk over the network of this machine."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from p10k_jax.hosts import Place, parse_place
from p10k_jax.reporting.writers import read_metrics
from p10k_jax.stopping import TRY_AGAIN
from p10k_jax.training.checkpoint import Checkpoints
from tests.runs import flags, start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start_all(
    program: str, count: int, arguments: list[str], *, only: int | None = None, odd: tuple[int, list[str]] = (0, [])
) -> list[subprocess.Popen]:
    """Starts `count` processes with 8 devices in all, or of them only one; process `odd[0]` is given `odd[1]` too."""
    port = free_port()
    return [
        start(
            program,
            [*arguments, *(odd[1] if index == odd[0] else []), f"--multihost=localhost:{port},{index}/{count}"],
            JAX_NUM_CPU_DEVICES=str(8 // count),
        )
        for index in range(count)
        if only in (None, index)
    ]


def ends(processes: list[subprocess.Popen], timeout: float = 300.0) -> list[tuple[int, str]]:
    """Exit code and output of each."""
    outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


def run_all(program: str, count: int, arguments: list[str]) -> list[str]:
    ended = ends(start_all(program, count, arguments))
    for code, output in ended:
        assert code == 0, output
    return [output for _, output in ended]


def losses(workdir):
    rows = [row for row in read_metrics(workdir / "metrics.jsonl") if "train/loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 31))
    return np.array([row["train/loss"] for row in rows])


@pytest.fixture(scope="module")
def predictions(finished, tmp_path_factory):
    """Those of the undisturbed run, by one process."""
    workdir = tmp_path_factory.mktemp("alone") / "workdir"
    shutil.copytree(finished[0], workdir)
    run = start("evaluate", [f"--workdir={workdir}", "--split=test", "--checkpoint=last"])
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output
    return pq.read_table(workdir / "eval" / "test" / "predictions.parquet")


def assert_same_predictions(table, expected):
    assert table.schema.equals(expected.schema)
    for column in ("name", "label", "group", "usage", "top5_labels"):
        assert table[column].equals(expected[column]), column
    scores, expected_scores = (np.array(rows["top5_scores"].to_pylist()) for rows in (table, expected))
    np.testing.assert_allclose(scores, expected_scores, atol=1e-4)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
def test_several_processes_train_and_evaluate_as_one(finished, predictions, tiny_data, tmp_path, count):
    workdir = tmp_path / "workdir"
    overrides = {"mesh.fsdp": 2} if count == 2 else {"mesh.model": 2}  # arrays that no process has whole
    first, *others = run_all("train", count, flags(tiny_data, workdir, **overrides))
    assert "30 steps of 16 images on 8 x cpu" in first
    assert not any("images" in other for other in others)
    np.testing.assert_allclose(losses(workdir), losses(finished[0]), rtol=1e-5)
    assert max(Checkpoints(workdir / "checkpoints", metric="top1", read_only=True).steps()) == 30
    run_all("evaluate", count, [f"--workdir={workdir}", "--split=test", "--checkpoint=last"])
    assert_same_predictions(pq.read_table(workdir / "eval" / "test" / "predictions.parquet"), predictions)


def batches(count: int, data_dir: Path, folder: Path) -> list[np.ndarray]:
    """What each of `count` processes reads: a row an image with its place, its index in the split and its sum."""
    files = [folder / f"{count}-{index}.npz" for index in range(count)]
    port = free_port()
    processes = []
    for index, file in enumerate(files):
        place = f"--multihost=localhost:{port},{index}/{count}" if count > 1 else "--multihost="
        arguments = [str(file), *flags(data_dir, folder / "unused"), place]
        processes.append(start("tests.host_batches", arguments, JAX_NUM_CPU_DEVICES=str(8 // count)))
    for code, output in ends(processes):
        assert code == 0, output
    return [np.column_stack([np.load(file)["rows"], np.load(file)["images"]]) for file in files]


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
def test_each_process_reads_its_share_of_the_same_batches(tiny_data, tmp_path, count):
    [whole] = batches(1, tiny_data, tmp_path)
    parts = batches(count, tiny_data, tmp_path)
    assert {len(part) for part in parts} == {len(whole) // count}
    together = np.concatenate(parts)
    np.testing.assert_array_equal(together[together[:, 0].argsort()], whole[whole[:, 0].argsort()])


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_whose_peer_does_not_come_says_so(tiny_data, tmp_path, index):
    arguments = [*flags(tiny_data, tmp_path / "workdir"), "--peer_seconds=3"]
    [(code, output)] = ends(start_all("train", 2, arguments, only=index))
    assert code == TRY_AGAIN, output
    assert f"process {index} of 2 at localhost:" in output
    assert "waited 3 s (--peer_seconds) for the others, in vain" in output
    assert not (tmp_path / "workdir").exists()


@pytest.mark.long
def test_when_a_process_is_killed_the_others_leave_and_all_go_on_together(finished, tiny_data, tmp_path):
    workdir = tmp_path / "workdir"
    arguments = flags(tiny_data, workdir)
    processes = start_all("train", 2, [*arguments, "--peer_seconds=20"])
    while not any(row["step"] >= 10 for row in read_metrics(workdir / "metrics.jsonl")):
        assert processes[0].poll() is None, processes[0].communicate()
    os.kill(processes[1].pid, signal.SIGKILL)
    (code, output), _ = ends(processes, timeout=60)
    # Whether the collective or JAX's own watch finds out first is chance; the watch ends the process with a signal.
    said = {
        TRY_AGAIN: "lost another process of 2. Start the same command again in all of them",
        -signal.SIGABRT: "another task died",
    }
    assert said[code] in output
    first, _ = run_all("train", 2, arguments)
    assert "goes on after step" in first
    np.testing.assert_allclose(losses(workdir), losses(finished[0]), rtol=1e-5)


def test_a_refused_run_ends_all_processes(tiny_data, tmp_path):
    arguments = flags(tiny_data, tmp_path / "workdir", **{"loss.name": "hinge"})
    for code, output in ends(start_all("train", 2, arguments)):
        assert code == 2, output
        assert "Unknown loss 'hinge'" in output


@pytest.mark.parametrize("index", [0, 1])
def test_what_one_process_refuses_ends_all(tiny_data, tmp_path, index):
    odd = (index, ["--config.mesh.fsdp=3"])
    ended = ends(start_all("train", 2, flags(tiny_data, tmp_path / "workdir"), odd=odd))
    assert [code for code, _ in ended] == [2, 2], ended
    assert "fsdp=3, model=1 does not fit 8 devices" in ended[index][1]
    assert f"process {index} refuses the run, and says why" in ended[1 - index][1]
    assert not (tmp_path / "workdir").exists()


def test_processes_with_different_configs_refuse_to_run(tiny_data, tmp_path):
    odd = (1, ["--config.optimizer.learning_rate=0.5"])
    for code, output in ends(start_all("train", 2, flags(tiny_data, tmp_path / "workdir"), odd=odd)):
        assert code == 2, output
        assert "processes [1] have another config than process 0" in output
    assert not (tmp_path / "workdir").exists()


@pytest.mark.long
def test_processes_that_do_not_share_the_workdir_refuse_to_run(tiny_data, tmp_path):
    odd = (1, [f"--workdir={tmp_path / 'elsewhere'}"])
    for code, output in ends(start_all("train", 2, flags(tiny_data, tmp_path / "workdir"), odd=odd)):
        assert code == 2, output
        assert "processes [1] do not see what process 0 wrote there" in output
    assert not (tmp_path / "elsewhere").exists()


def test_where_there_is_no_cluster_auto_says_so(tiny_data, tmp_path):
    process = start("train", [*flags(tiny_data, tmp_path / "workdir"), "--multihost=auto"])
    [(code, output)] = ends([process])
    assert code == 2, output
    assert "--multihost=auto: JAX finds no cluster here" in output
    assert "Traceback" not in output


def test_a_place_is_read():
    assert parse_place("10.0.0.2:8476,3/4") == Place("10.0.0.2:8476", 3, 4)
    for wrong in ("yes", "host,0/2", "host:1,2/2", "host:1,0", "host:1,-1/2", "host:1 ,0/2"):
        with pytest.raises(ValueError, match="HOST:PORT,INDEX/COUNT"):
            parse_place(wrong)
