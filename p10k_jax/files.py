"""Files that appear whole or not at all."""

import json
import os
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
