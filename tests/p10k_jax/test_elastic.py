"""Runs that change their hardware: other meshes, other numbers of devices and processes."""

import signal
import time

import jax
import numpy as np
import pytest

from p10k_jax.reporting.writers import read_metrics
from p10k_jax.stopping import TRY_AGAIN
from p10k_jax.training.checkpoint import Checkpoints
from tests.crossing import STEP, state
from tests.p10k_jax.test_hosts import ends, free_port, losses
from tests.runs import flags, start


def test_checkpoints_cross_meshes_and_processes_bit_by_bit(tmp_path):
    """(8x1) -> (2x2) -> (1) -> (4x2, two processes), and back onto this process's devices."""
    places = [tmp_path / str(number) for number in range(4)]
    meshes = [(8, 1), (2, 2), (1, 1), (4, 2)]
    for number, (place, (data, fsdp)) in enumerate(zip(places, meshes, strict=True)):
        source = "-" if number == 0 else str(places[number - 1])
        command, count = [source, str(place), str(data), str(fsdp), "1"], 2 if number == 3 else 1
        port = free_port()
        processes = [
            start(
                "tests.crossing",
                [*command, *([f"localhost:{port},{index}/{count}"] if count > 1 else [])],
                JAX_NUM_CPU_DEVICES=str(data * fsdp // count),
            )
            for index in range(count)
        ]
        for code, output in ends(processes):
            assert code == 0, output
    expected = state()
    checkpoints = Checkpoints(places[-1], metric="top1", read_only=True)
    jax.tree.map(np.testing.assert_array_equal, checkpoints.restore_on_host(STEP, expected), expected)


# Each part of the run: devices, processes, mesh.
PARTS = [(8, 1, {}), (4, 1, {"mesh.data": 2, "mesh.fsdp": 2}), (1, 1, {}), (8, 2, {"mesh.data": 4, "mesh.fsdp": 2})]


@pytest.mark.long
def test_a_run_goes_on_on_other_hardware_with_the_same_losses(finished, tiny_data, tmp_path):
    workdir = tmp_path / "workdir"
    until = [6, 12, 18, 30]
    for (devices, count, mesh), step in zip(PARTS, until, strict=True):
        port = free_port()
        processes = []
        for index in range(count):
            place = [f"--multihost=localhost:{port},{index}/{count}"] if count > 1 else []
            arguments = [*flags(tiny_data, workdir, **mesh), *place]
            processes.append(start("train", arguments, JAX_NUM_CPU_DEVICES=str(devices // count)))
        while step < 30 and not any(row["step"] >= step for row in read_metrics(workdir / "metrics.jsonl")):
            assert processes[0].poll() is None, processes[0].communicate()
            time.sleep(0.001)
        if step < 30:
            processes[0].send_signal(signal.SIGTERM)
        for code, output in ends(processes):
            assert code == (TRY_AGAIN if step < 30 else 0), output
    np.testing.assert_allclose(losses(workdir), losses(finished[0]), rtol=1e-5)


@pytest.mark.long
def test_when_one_process_is_told_to_end_all_save_and_leave(tiny_data, tmp_path):
    workdir = tmp_path / "workdir"
    port = free_port()
    arguments = flags(tiny_data, workdir, **{"checkpoint.every.percent": 100.0})
    processes = [
        start("train", [*arguments, f"--multihost=localhost:{port},{index}/2"], JAX_NUM_CPU_DEVICES="4")
        for index in range(2)
    ]
    while not any(row["step"] >= 7 for row in read_metrics(workdir / "metrics.jsonl")):
        assert processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.001)
    processes[1].send_signal(signal.SIGTERM)
    for code, output in ends(processes, timeout=60):
        assert code == TRY_AGAIN, output
    [*_, last] = Checkpoints(workdir / "checkpoints", metric="top1", read_only=True).steps()
    rows = [row["step"] for row in read_metrics(workdir / "metrics.jsonl") if "train/loss" in row]
    assert rows == list(range(1, last + 1))
    assert 7 < last < 30
