"""How a run ends before its end: on a signal, and with which exit code.

SIGTERM, which a preempted machine, Slurm and Kubernetes send, and SIGINT, Ctrl-C, let the step under way end; then the
run is saved and leaves. While a program is compiled or a split evaluated, they do not wait for that. A second SIGINT
leaves at once, without a checkpoint.
"""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

from p10k_jax.training.checkpoint import UnreadableCheckpoint

T = TypeVar("T")

# 75 is EX_TEMPFAIL of sysexits.h: nothing is wrong with the command, give it again.
FAILED, BAD_INPUT, DIVERGED, TRY_AGAIN, INTERRUPTED = 1, 2, 3, 75, 130

_POLL_SECONDS = 0.1


class Stopped(BaseException):
    """The run was told to end; as KeyboardInterrupt, nothing but the program is to catch it."""

    def __init__(self, number: int):
        self.number = signal.Signals(number)
        super().__init__(self.number.name)

    @property
    def code(self) -> int:
        """Exit code of the program."""
        return INTERRUPTED if self.number == signal.SIGINT else TRY_AGAIN


class LostFiles(RuntimeError):
    """The run came to its end, but not all that it should have left was written."""


class NotShared(ValueError):
    """The processes of a run do not see the same workdir."""


class Stop:
    """Whether the run is to end. Without `listening` it never is, as in a notebook, where Ctrl-C is the notebook's."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._heard = False
        self._deferred = False
        self._several = False
        self._asked = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within this signals are heard; comes when the processes of a run have joined."""
        self._several = jax.process_count() > 1
        handlers = {signal.SIGINT: self._note}
        if not self._several:
            handlers[signal.SIGTERM] = self._note  # else JAX hears it, and tells the other processes
        earlier = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        self._heard = True
        try:
            yield
        finally:
            self._heard = False
            for number, handler in earlier.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this a signal raises nothing, for there is something to save: `asked` tells."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def asked(self) -> bool:
        """Whether to end now. Every process asks equally often, and all are told so at the same time."""
        if not self._heard:
            return False
        if self._several:
            self._asked += 1
            if multihost_utils.reached_preemption_sync_point(self._asked):
                self._number = self._number or signal.SIGTERM
                return True
            return False
        return self._number is not None

    def check(self) -> None:
        """Raises Stopped where `asked` tells to end."""
        if self.asked():
            raise self.stopped()

    def during(self, work: Callable[[], T], *, at_most: float = math.inf) -> T:
        """What `work` gives. A single process does not wait for it when it is told to end, nor longer than `at_most`
        seconds.

        Raises:
            Stopped: it was; `work` goes on in its thread, and what it uses must not be changed.
            ConnectionError: it took longer.
        """
        if not self._heard or self._several:
            return work()
        result: list[T] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                result.append(work())
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run, name="work", daemon=True)
        thread.start()
        deadline = time.monotonic() + at_most
        while thread.is_alive():
            self.check()
            if time.monotonic() > deadline:
                raise ConnectionError(f"the storage has not answered for {at_most:g} s")
            thread.join(_POLL_SECONDS)
        if raised:
            raise raised[0]
        return result[0]

    def stopped(self) -> Stopped:
        """What the program is to raise."""
        return Stopped(self._number or signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGINT and self._number == signal.SIGINT:
            print("\ninterrupted twice: left without a checkpoint", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)
        first, self._number = self._number is None, self._number or number
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
        elif first and not self._deferred:  # another must not disturb the saving that the first began
            raise Stopped(number)


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turns how a run ended into a message and an exit code: 1 something it should have left is lost, 2 no
    checkpoint can be read or not all processes see the workdir, 3 diverged, 75 SIGTERM or a storage that does not
    answer, 130 SIGINT."""
    try:
        yield
    except Stopped as stopped:
        print(f"ended by {stopped.number.name}; the same command goes on", file=sys.stderr)
        end(stopped.code)
    except (FloatingPointError, LostFiles, UnreadableCheckpoint, NotShared, ConnectionError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        codes = {LostFiles: FAILED, UnreadableCheckpoint: BAD_INPUT, NotShared: BAD_INPUT, ConnectionError: TRY_AGAIN}
        end(next((code for kind, code in codes.items() if isinstance(error, kind)), DIVERGED))


def end(code: int) -> None:
    """Ends the program; at once where it is alone, for a thread may still compile or hang, and nobody waits for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_count() > 1:
        sys.exit(code)
    os._exit(code)
