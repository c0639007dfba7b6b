"""Child processes: logs, signals, ends; the lock that a child keeps."""

import signal
import time

import pytest

from configs import vit
from p10k_jax.ablation.children import Signals, run_child
from p10k_jax.ablation.runs import Run, held


@pytest.fixture
def run(tmp_path):
    return Run("plain", 0, tmp_path / "plain" / "seed0", tmp_path / "logs", vit.get_config(), [])


def talk(run, behaviour, on_line=lambda line, signals: None, inherited=()):
    signals, lines = Signals(), []

    def relay(line):
        lines.append(line)
        on_line(line, signals)

    settings = {"log": run.log, "relay": relay, "signals": signals, "environment": {}, "inherited": inherited}
    with signals.listening():  # as ablate does: a child then takes signals that a shell had this process ignore
        return run_child("tests.talking_child", [behaviour], **settings), lines


def test_output_goes_into_the_log_and_on(run):
    ended, lines = talk(run, "well")
    assert (ended.code, lines) == (0, ["ready"])
    ended, lines = talk(run, "fails")
    assert ended.code == 3
    assert ended.tail == [str(number) for number in range(25, 40)]
    assert lines == ["ready", *map(str, range(40))]
    assert ended.complaint("train").startswith("train: exit code 3\n25\n26\n")
    head, first, *_ = run.log.read_text().splitlines()
    assert (head, first) == ("$ python -m tests.talking_child well", "ready")


def test_a_signal_is_handed_on_and_the_child_has_time(run):
    ended, lines = talk(
        run, "polite", lambda line, signals: signals.received.append(signal.SIGINT) if line == "ready" else 0
    )
    assert (ended.code, lines) == (7, ["ready", "saves"])


def test_a_second_signal_kills(run):
    began = time.monotonic()

    def twice(line, signals):
        signals.received.append(signal.SIGINT)
        time.sleep(0.5)
        signals.received.append(signal.SIGINT)

    ended, _ = talk(run, "deaf", twice)
    assert ended.code == -signal.SIGKILL
    assert time.monotonic() - began < 20


def test_a_killed_child_says_that_memory_may_be_the_reason(run):
    ended, _ = talk(run, "killed")
    assert ended.complaint("train") == (
        "train: ended by SIGKILL, which is what a machine that is out of memory does\nready"
    )


def test_signals_are_noted_while_listening():
    signals, before = Signals(), signal.getsignal(signal.SIGTERM)
    with signals.listening():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert signals.received == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_process_works_on_a_run(run):
    with held(run) as first, held(run) as second:
        assert first is not None
        assert second is None
    with held(run) as again:
        assert again is not None
        seen = []

        def look(line, signals):
            with held(run) as other:
                seen.append(other)

        talk(run, "well", look, inherited=[again])
        assert seen == [None]
