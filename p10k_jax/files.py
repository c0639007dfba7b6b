"""Files that appear whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str, *, writer: str = "") -> None:
    """Replaces `path` by one rename after the text is on disk. See `write_bytes`."""
    write_bytes(path, text.encode(), writer=writer)


def write_bytes(path: Path, data: bytes, *, writer: str = "") -> None:
    """Replaces `path` by one rename after the bytes are on disk.

    Args:
        path: To write.
        data: All of it.
        writer: Name of the process, where several may write the same file at once: the last one wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".".join(filter(None, [path.name, writer, "incomplete"])))
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, floats in full precision."""
    write_text(path, json.dumps(value, indent=2) + "\n")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """For what is written piece by piece: gives another path, which becomes `path` by one rename at the end.

    Where the block raises, what was written goes away and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".incomplete")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
