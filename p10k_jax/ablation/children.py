"""Child processes: their output into a log and onto the live line, their end on a signal."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

KEPT_LINES = 15
GRACE_SECONDS = 60.0


class Ended(NamedTuple):
    """How a child ended: its exit code (negative: the signal that ended it) and the last lines that it wrote."""

    code: int
    tail: list[str]

    def complaint(self, program: str) -> str:
        """Why it failed, with its last lines."""
        how = f"exit code {self.code}"
        if self.code < 0:
            how = f"ended by {signal.Signals(-self.code).name}"
            if self.code == -signal.SIGKILL:
                how += ", which is what a machine that is out of memory does"
        return "\n".join([f"{program}: {how}", *self.tail])


class Signals:
    """Notes SIGINT and SIGTERM instead of being ended by them, within `listening`."""

    def __init__(self) -> None:
        self.received: list[int] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Puts the earlier handlers back at the end."""
        earlier = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received.append(number)


def run_child(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    relay: Callable[[str], None],
    signals: Signals,
    environment: Mapping[str, str],
    inherited: Sequence[int] = (),
) -> Ended:
    """Runs `python -m <module> <arguments>` to its end.

    A signal is handed on to the child, which has `GRACE_SECONDS` to end; a second one kills it.

    Args:
        module: As behind `python -m`.
        arguments: Of the program.
        log: Appended to.
        relay: Called with every line that the child writes.
        signals: Being listened to.
        environment: On top of this process's.
        inherited: Descriptors that the child keeps open.
    """
    tail: deque[str] = deque(maxlen=KEPT_LINES)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(f"$ {shlex.join(['python', '-m', module, *arguments])}\n")
        file.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C reaches this process alone, which tells the child
            pass_fds=inherited,
            text=True,
            errors="replace",
        )

        def drain() -> None:
            with process.stdout:
                for line in process.stdout:
                    file.write(line)
                    file.flush()
                    if line.strip():
                        tail.append(line.rstrip())
                        relay(line.strip())

        reader = threading.Thread(target=drain, daemon=True)
        reader.start()
        code = _wait(process, signals)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # workers that it left behind
            os.killpg(process.pid, signal.SIGKILL)
        reader.join(timeout=10)
    return Ended(code, list(tail))


def _wait(process: subprocess.Popen, signals: Signals) -> int:
    told, deadline = 0, None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=0.2)
        if len(signals.received) > told:
            process.send_signal(signal.SIGKILL if told else signals.received[-1])
            told, deadline = len(signals.received), deadline or time.monotonic() + GRACE_SECONDS
        if deadline and time.monotonic() > deadline:
            process.kill()
