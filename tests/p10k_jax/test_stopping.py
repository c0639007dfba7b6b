"""Runs that are told to end: what they save, how soon they leave, with which code, and that they go on from there."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from p10k_jax.reporting.progress import Console
from p10k_jax.reporting.writers import read_metrics
from p10k_jax.stopping import INTERRUPTED, TRY_AGAIN, Stop, Stopped
from p10k_jax.train import plan, train
from p10k_jax.training.checkpoint import Checkpoints
from p10k_jax.training.saving import Saves
from tests.runs import flags, start, tiny_config


def steps(workdir):
    return Checkpoints(workdir / "checkpoints", metric="top1", read_only=True).steps()


def rows(workdir, key):
    found = [(row["step"], row[key]) for row in read_metrics(workdir / "metrics.jsonl") if key in row]
    assert len(dict(found)) == len(found), "a step stands there twice"
    return found


def assert_undisturbed(state, workdir, finished):
    expected, expected_state = finished
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), expected_state)
    for key in ("train/loss", "validation/top1"):
        assert rows(workdir, key) == rows(expected, key)
    assert steps(workdir) == steps(expected)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, TRY_AGAIN), pytest.param(signal.SIGINT, INTERRUPTED, marks=pytest.mark.long)]
)
def test_a_run_that_is_told_to_end_is_saved(finished, tiny_data, tmp_path, number, code):
    workdir = tmp_path / "workdir"
    arguments = [*flags(tiny_data, workdir), "--config.checkpoint.every.percent=100"]
    process = start("train", arguments)
    while not any(row["step"] >= 8 for row in read_metrics(workdir / "metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert f"ended by {number.name}; the same command goes on" in output
    [*_, last] = steps(workdir)
    assert last >= 8
    assert f"told to end: saving step {last}" in output
    state = train(plan(tiny_config(tiny_data), workdir), Console())
    assert_undisturbed(state, workdir, finished)


class Interrupts:
    """Work that sends its process a signal and then takes a minute."""

    def __init__(self, number):
        self.number = number

    def __call__(self, *_, **__):
        os.kill(os.getpid(), self.number)
        time.sleep(60)

    compile = __call__


def left_early(run, number, seconds=20.0):
    """Trains until it is told to end."""
    stop, began = Stop(), time.monotonic()
    with pytest.raises(Stopped) as stopped, stop.listening():
        train(run, Console(), stop)
    assert stopped.value.number == number
    assert time.monotonic() - began < seconds
    assert signal.getsignal(number) is not stop._note


def test_evaluation_is_not_waited_for_and_made_up_for(finished, tiny_data, tmp_path):
    workdir = tmp_path / "workdir"
    run = plan(tiny_config(tiny_data), workdir)
    left_early(run._replace(validate=Interrupts(signal.SIGTERM)), signal.SIGTERM)
    assert steps(workdir) == [3, 6]
    assert not rows(workdir, "validation/top1")
    state = train(plan(tiny_config(tiny_data), workdir), Console())
    assert_undisturbed(state, workdir, finished)


def test_the_compiler_is_not_waited_for(tiny_data, tmp_path):
    workdir = tmp_path / "workdir"
    run = plan(tiny_config(tiny_data), workdir)
    [phase] = run.program.phases
    slow = run.program._replace(phases=[phase._replace(lowered=Interrupts(signal.SIGINT))])
    left_early(run._replace(program=slow), signal.SIGINT)
    assert steps(workdir) == []  # there was nothing to save


def test_before_there_is_anything_to_save_it_leaves_at_once(tiny_data, tmp_path):
    run = plan(tiny_config(tiny_data), tmp_path / "workdir")
    left_early(run._replace(init=Interrupts(signal.SIGTERM)), signal.SIGTERM)


def test_a_program_leaves_with_its_code_while_work_goes_on():
    """A thread that compiles for a minute keeps nobody waiting."""
    program = (
        "import os, signal, time\n"
        "from p10k_jax.stopping import Stop, exit_codes\n"
        "stop = Stop()\n"
        "def work():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "with exit_codes(), stop.listening(), stop.deferred():\n"
        "    stop.during(work)\n"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (child.returncode, child.stderr) == (TRY_AGAIN, "ended by SIGTERM; the same command goes on\n")


def test_a_second_interrupt_leaves_at_once():
    program = (
        "import time\n"
        "from p10k_jax.stopping import Stop, exit_codes\n"
        "stop = Stop()\n"
        "with exit_codes(), stop.listening(), stop.deferred():\n"
        "    print('ready', flush=True)\n"
        "    while not stop.asked():\n"
        "        time.sleep(0.01)\n"
        "    print('saving', flush=True)\n"
        "    time.sleep(60)\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "saving\n"
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    assert (child.returncode, said) == (INTERRUPTED, "\ninterrupted twice: left without a checkpoint\n")


def test_what_fails_in_a_thread_fails():
    stop = Stop()
    with stop.listening():
        assert stop.during(lambda: 5) == 5
        with pytest.raises(ZeroDivisionError):
            stop.during(lambda: 1 / 0)
    assert not stop.asked()


def test_an_evaluation_that_is_made_up_for_stands_in_the_rows_once(finished, tiny_data, tmp_path):
    """Left between its row and its checkpoint, and again."""
    workdir = tmp_path / "workdir"
    run = plan(tiny_config(tiny_data), workdir)
    left_early(run._replace(validate=Interrupts(signal.SIGTERM)), signal.SIGTERM)
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 6, "validation/top1": 0.0, "seconds": 1.0}) + "\n")
    state = train(plan(tiny_config(tiny_data), workdir), Console())
    assert_undisturbed(state, workdir, finished)


def test_a_second_sigterm_does_not_disturb_the_saving(tiny_data, tmp_path, monkeypatch):
    run = plan(tiny_config(tiny_data), tmp_path / "workdir")
    save = Saves.save

    def told_again(self, state, *, step, metrics=None):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self, state, step=step, metrics=metrics)

    monkeypatch.setattr(Saves, "save", told_again)
    left_early(run._replace(validate=Interrupts(signal.SIGTERM)), signal.SIGTERM)
    assert steps(tmp_path / "workdir") == [3, 6]
