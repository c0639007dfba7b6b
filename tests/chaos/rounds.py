"""One round: what is drawn for it, and how it is played."""

import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from p10k_jax.reporting.writers import read_metrics
from p10k_jax.stopping import INTERRUPTED, TRY_AGAIN
from tests.p10k_jax.test_hosts import free_port
from tests.runs import flags, start

STEPS = 30
_PATIENCE = 300.0  # seconds that a process may take to its end


class Hardware(NamedTuple):
    """Devices in all, processes, and the settings of the mesh."""

    devices: int
    processes: int
    mesh: dict[str, int]


HARDWARE = {
    "8x1": Hardware(8, 1, {}),
    "2x2": Hardware(4, 1, {"mesh.data": 2, "mesh.fsdp": 2}),
    "1": Hardware(1, 1, {}),
    "4x2 of two processes": Hardware(8, 2, {"mesh.data": 4, "mesh.fsdp": 2}),
}
HOME = "8x1"

# What a process may leave with when it, or another of its run, was ended so; the last is JAX's own watch.
_CODES = {
    signal.SIGKILL: {-signal.SIGKILL, TRY_AGAIN, -signal.SIGABRT},
    signal.SIGTERM: {TRY_AGAIN, -signal.SIGTERM},
    signal.SIGINT: {INTERRUPTED, TRY_AGAIN, -signal.SIGINT, 1},
}


class End(NamedTuple):
    """How a start is ended: the signal, and when: after `seconds`, at a `step` and a moment, or in a `save`."""

    number: signal.Signals
    when: str
    step: int
    seconds: float
    process: int

    def __str__(self) -> str:
        moment = {"start": f"{self.seconds:.1f} s", "step": f"step {self.step}", "save": f"a save from {self.step} on"}
        return f"{self.number.name} at {moment[self.when]}"


class Round(NamedTuple):
    """Hardware of every start, of which all but the last are ended."""

    hardware: tuple[str, ...]
    ends: tuple[End, ...]

    @property
    def same(self) -> bool:
        """Whether all starts have the same hardware."""
        return len(set(self.hardware)) == 1

    def __str__(self) -> str:
        starts = zip(self.hardware, [*map(str, self.ends), "the end"], strict=True)
        return "; ".join(f"{name} to {end}" for name, end in starts)


class Lost(Exception):
    """The run did not come to its end, or lost what it had."""


def draw_round(seed: int, number: int) -> Round:
    """Even rounds stay on the hardware that is drawn for them, odd ones change it."""
    drawn = random.Random(f"{seed} {number}")
    ends = tuple(
        End(
            number=drawn.choices([signal.SIGKILL, signal.SIGTERM, signal.SIGINT], [7, 2, 1])[0],
            when=drawn.choices(["start", "step", "save"], [2, 5, 3])[0],
            step=drawn.randrange(1, STEPS),
            seconds=drawn.uniform(0.0, 8.0),
            process=drawn.randrange(2),
        )
        for _ in range(drawn.randint(1, 3))
    )
    names = list(HARDWARE)
    home = drawn.choice(names)
    hardware = [home if number % 2 == 0 else drawn.choice(names) for _ in range(len(ends) + 1)]
    if number % 2 and len(set(hardware)) == 1:
        hardware[-1] = next(name for name in names if name != home)
    return Round(tuple(hardware), ends)


def start_on(hardware: Hardware, data: Path, workdir: Path) -> list[subprocess.Popen]:
    """The processes of one start."""
    port, count = free_port(), hardware.processes
    return [
        start(
            "train",
            [
                *flags(data, workdir, **hardware.mesh),
                *([f"--multihost=localhost:{port},{index}/{count}", "--peer_seconds=10"] if count > 1 else []),
            ],
            JAX_NUM_CPU_DEVICES=str(hardware.devices // count),
        )
        for index in range(count)
    ]


def undisturbed(data: Path, workdir: Path, name: str) -> Path:
    """The workdir of a run that is left alone on that hardware."""
    _run_to_the_end(start_on(HARDWARE[name], data, workdir))
    return workdir


def play(plan: Round, data: Path, workdir: Path) -> None:
    """Raises Lost."""
    for name, end in zip(plan.hardware, plan.ends, strict=False):
        before = _complete(workdir)
        processes = start_on(HARDWARE[name], data, workdir)
        victim = processes[end.process % len(processes)]
        _wait_for(end, workdir, processes)
        victim.send_signal(end.number)
        for process in processes:
            output = _output(process)
            if process.returncode not in {*_CODES[end.number], 0}:  # 0: it was done before
                raise Lost(f"exit code {process.returncode} after {end}: {output[-2000:]}")
            _check_went_on(output, before)
    before = _complete(workdir)
    output = _run_to_the_end(start_on(HARDWARE[plan.hardware[-1]], data, workdir))
    _check_went_on(output, before)
    steps = [row["step"] for row in read_metrics(workdir / "metrics.jsonl") if "train/loss" in row]
    if steps != list(range(1, STEPS + 1)):
        raise Lost(f"metrics.jsonl has the steps {steps}")


def _complete(workdir: Path) -> int:
    """Step of the last complete checkpoint."""
    folder = workdir / "checkpoints"
    return max((int(entry.name) for entry in folder.glob("*") if entry.name.isdigit()), default=0)


def _check_went_on(output: str, before: int) -> None:
    found = re.search(r"goes on after step ([\d,]+)", output)
    said = int(found[1].replace(",", "")) if found else 0
    if " steps of " in output and said < before:
        raise Lost(f"went on after step {said}, where the checkpoint of step {before} was complete")


def _wait_for(end: End, workdir: Path, processes: list[subprocess.Popen]) -> None:
    """Returns when it is time, or a process has ended."""
    deadline = time.monotonic() + (end.seconds if end.when == "start" else _PATIENCE)
    reached = False
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        if end.when != "start":
            rows = read_metrics(workdir / "metrics.jsonl")
            reached = reached or any(row["step"] >= end.step for row in rows)
            if reached and (end.when == "step" or any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"))):
                time.sleep(end.seconds / 100)
                return
        time.sleep(0.001)


def _run_to_the_end(processes: list[subprocess.Popen]) -> str:
    outputs = [_output(process) for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        if process.returncode:
            raise Lost(f"exit code {process.returncode}: {output[-2000:]}")
    return outputs[0]


def _output(process: subprocess.Popen) -> str:
    try:
        output, _ = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise Lost(f"hung: {output[-2000:]}") from None
    return output
