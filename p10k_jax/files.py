"""Files that appear whole or not at all, and a reader of JSON that trusts none."""

import contextlib
import json
import os
import re
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


def read_json(path: Path, way_out: str) -> Any:
    """Reads a JSON file of whatever origin.

    Args:
        path: Of the file.
        way_out: What to do about one that cannot be read, the end of the error.

    Raises:
        ValueError: a file that cannot be opened, is no JSON, nests beyond what Python can follow, or holds what would
            be misread or could not be written again: a key twice, an integer beyond 64 bits, half a surrogate pair.
    """
    try:
        if (size := path.stat().st_size) > _MOST_JSON_BYTES:
            raise ValueError(f"{size:,} bytes, more than the limit of {_MOST_JSON_BYTES:,}")
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, parse_int=_integer, object_pairs_hook=_object)
        if _HALF_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}); {way_out}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}); {way_out}.") from error
    return value


def read_object(path: Path, way_out: str) -> dict[str, Any]:
    """As `read_json`, of a file that is to hold an object; ValueError where it holds anything else."""
    value = read_json(path, way_out)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no object in braces; {way_out}.")
    return value


_MOST_JSON_BYTES = 1 << 28
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"{text[:24]}… is an integer beyond 64 bits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"key {twice!r:.99} stands there twice")
    return found


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
