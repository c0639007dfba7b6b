"""Bytes as a folder of files, so that one input can be a whole catalogue, export or workdir."""

import re
from pathlib import Path

# Between files stands a line `=== NAME`; what is before the first is the file called `data`.
_MARK = re.compile(rb"(?:\A|\n)=== ([^\n]{0,300})\n")
_MOST_FILES = 64


def pack(files: dict[str, bytes]) -> bytes:
    """The files as one input."""
    return b"".join(b"\n=== " + name.encode("utf-8", "surrogateescape") + b"\n" + data for name, data in files.items())


def unpack(data: bytes) -> dict[str, bytes]:
    """File name to content; names as they stand there, fit for `write` or not."""
    before, *parts = _MARK.split(data)
    files = {"data": before} if before else {}
    for name, content in list(zip(parts[::2], parts[1::2], strict=True))[:_MOST_FILES]:
        files[name.decode("utf-8", "surrogateescape")] = content
    return files


def write(files: dict[str, bytes], folder: Path) -> None:
    """Writes what a file system takes inside `folder`; a name ending in `/` is an empty folder, the others are left."""
    for name, content in files.items():
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        if not parts or "\0" in name:
            continue
        path = folder.joinpath(*parts)
        try:
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:  # a file where a folder is to be, a name too long
            continue
