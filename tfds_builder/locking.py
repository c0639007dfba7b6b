"""One build of a dataset at a time, and no rubbish left by builds that were killed."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: builds are not kept apart
    fcntl = None


@contextlib.contextmanager
def building(data_dir: Path) -> Iterator[bool]:
    """Holds the right to build `data_dir` (…/name/config/version); waits for another builder; clears what one left.

    The lock is on the parent folder itself and ends with the process, however it ends. TFDS writes into
    `incomplete.*_version` beside the final folder and renames at the end, so a leftover never looks prepared; with the
    lock held, no leftover belongs to a living build. If the build fails, the folders made for it go away. Gives whether
    the lock is held: there are file systems without locks.
    """
    parent = data_dir.parent
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(parent) as held:
            if held:
                for leftover in parent.glob(f"incomplete.*_{data_dir.name}"):
                    shutil.rmtree(leftover, ignore_errors=True)
            yield held
    finally:
        for folder in made:
            _remove_empty(folder)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Holds a folder's lock, for which it waits and which ends with the process; gives whether there is one."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Waits for the lock; False on a file system without locks, where another host's build may be alive."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def scratch(data_dir: Path) -> Iterator[Path]:
    """A folder for raw files beside `data_dir`, for the time of a build; a killed build's one is cleared by the next.

    Only within `building(data_dir)`.
    """
    folder = data_dir.parent / f"incomplete.raw_{data_dir.name}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_empty(folder: Path) -> None:
    """Takes a folder away that holds nothing, or nothing but TFDS's note on the default config."""
    with contextlib.suppress(OSError):
        if [entry.name for entry in folder.iterdir()] == [".config"]:
            shutil.rmtree(folder / ".config")
        folder.rmdir()
