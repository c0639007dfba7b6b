"""What is checked of every input: the outcome, what was opened and written, time and memory."""

import contextlib
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

CPU_SECONDS = 5.0
MEMORY_BYTES = 3 << 29  # 1.5 GiB: a picture of the most pixels allowed, with its alpha laid on white, takes 1.3
MESSAGE_CHARACTERS = 20_000

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_NEVER = {
    *("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn"),
    *("socket.connect", "socket.getaddrinfo", "ctypes.dlopen"),
}


class Target(NamedTuple):
    """Something that reads a stranger's bytes.

    Attributes:
        run: Takes the input and an empty folder to lay files in.
        allowed: Errors that say no to an input; all others are findings.
        most_bytes: Length of the longest input that is tried.
    """

    run: Callable[[bytes, Path], None]
    allowed: tuple[type[Exception], ...]
    most_bytes: int = 1 << 14


class Finding(AssertionError):
    """An input did what none may."""


class _Guard:
    """Sees through Python's audit events what the process opens while an input is tried, and refuses the rest."""

    def __init__(self) -> None:
        self.root: Path | None = None
        self.offences: list[str] = []
        self._installed = False

    def install(self) -> None:
        if not self._installed:
            sys.addaudithook(self._hear)
            self._installed = True

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.root is None:
            return
        offence = self._offence(event, arguments)
        if offence:
            self.offences.append(offence)
            raise PermissionError(offence)

    def _offence(self, event: str, arguments: tuple) -> str:
        if event in _NEVER:
            return f"{event} {arguments[:2]!r:.200}"
        if event == "open":
            path, _, flags = arguments
            return "" if isinstance(path, int) else self._misplaced(event, path, writes=bool(flags & _WRITING))
        if event == "os.symlink":  # where it leads matters when it is followed
            arguments = arguments[1:2]
        if event in _CHANGES:
            return "".join(self._misplaced(event, path, writes=True) for path in arguments[:2] if _is_path(path))
        return ""

    def _misplaced(self, event: str, path: str | bytes, *, writes: bool) -> str:
        real = os.path.realpath(os.fsdecode(path))
        given = str(self.root / "given")
        if real == given or real.startswith(given + "/"):
            return ""
        beside = real.startswith(str(self.root) + "/")
        return f"{event} reads or changes {real!r}" if beside or (writes and not real.startswith(_caches())) else ""


def _is_path(value: object) -> bool:
    return isinstance(value, str | bytes | os.PathLike)


def _caches() -> tuple[str, ...]:
    compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return ("/dev/", *([os.path.realpath(compiled)] if compiled else []))


_GUARD = _Guard()


@contextlib.contextmanager
def _guarded(root: Path) -> Iterator[list[str]]:
    _GUARD.install()
    _GUARD.offences, _GUARD.root = [], root
    try:
        yield _GUARD.offences
    finally:
        _GUARD.root = None


def check(target: Target, data: bytes) -> str:
    """Tries one input.

    Returns:
        `read`, or the name of the error that refused it.

    Raises:
        Finding: another error, a message without end, something written outside the folder or read beside it, anything
            unpickled, started or connected to, too much time or memory.
    """
    root = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)).resolve()
    try:
        (root / "given").mkdir()
        (root / "outside.jpg").write_bytes(b"")  # for names that lead out
        started, before = time.process_time(), _peak_bytes(anew=True)
        with _guarded(root) as offences:
            outcome = _outcome(target, data, root / "given")
        seconds, grown = time.process_time() - started, _peak_bytes() - before
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if offences:
        raise Finding(offences[0])
    if seconds > CPU_SECONDS:
        raise Finding(f"{seconds:.1f} s of CPU time; the limit is {CPU_SECONDS}")
    if grown > MEMORY_BYTES:
        raise Finding(f"{grown:,} bytes of memory; the limit is {MEMORY_BYTES:,}")
    return outcome


def _outcome(target: Target, data: bytes, given: Path) -> str:
    try:
        target.run(data, given)
    except target.allowed as error:
        if isinstance(error, UnicodeError):  # a ValueError by descent, but nobody wrote its message for the user
            raise Finding(f"{type(error).__name__}: {error}") from error
        message = str(error)
        if not 0 < len(message) <= MESSAGE_CHARACTERS:
            raise Finding(f"{type(error).__name__} with a message of {len(message):,} characters") from error
        return type(error).__name__
    except RecursionError as error:
        raise Finding(f"RecursionError: {error}") from None  # its traceback has a thousand frames
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {str(error)[:500]}") from error
    return "read"


def _peak_bytes(*, anew: bool = False) -> int:
    """The most resident memory that the process had; on Linux since it was last asked `anew`."""
    try:
        if anew:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
