"""NumPy's `.npz` archives from strangers: read one by one, nothing unpickled, nothing allocated on a file's word."""

import contextlib
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import ml_dtypes
import numpy as np

_CHUNK = 1 << 22
# Trained weights shrink by a tenth or two; what claims to unpack to more than this is a bomb.
_LARGEST_RATIO = 10
_SLACK = 1 << 20
LONGEST_HEADER = 10_000
_HEADER = re.compile(
    r"\{'descr': ?'(?P<kind>[<>|=]?[a-zA-Z][0-9]*)', ?'fortran_order': ?(?P<fortran>True|False), ?"
    r"'shape': ?\((?P<shape>[0-9L, ]{0,200})\),? ?\}\s*"
)


class Header(NamedTuple):
    """What an `.npy` file begins with.

    Attributes:
        shape, fortran_order, dtype: Of the array.
        offset: Of the first value, bytes.
    """

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    offset: int

    @property
    def nbytes(self) -> int:
        """Of the values."""
        count = 1
        for length in self.shape:  # Python's integers: NumPy's would run over
            count *= length
        return count * self.dtype.itemsize


class NpzArchive:
    """An open archive. Made by `open_npz`.

    Attributes:
        path: The file.
        names: Of its arrays, in the file's order.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        self.path, self._archive, self._headers = path, archive, {}
        self._members = {info.filename.removesuffix(".npy"): info for info in members}
        self.names = tuple(self._members)
        if len(self.names) < len(members):
            raise ValueError(f"{path} holds two arrays of one name; it is no checkpoint.")

    def shapes(self, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Shapes by name, by the headers alone.

        Raises:
            ValueError: a header that does not agree with its member's size, values that are no numbers, or more data
                than the file can hold.
        """
        headers = {name: self._header(name) for name in names}
        total, size = sum(header.nbytes for header in headers.values()), self.path.stat().st_size
        if total > _LARGEST_RATIO * size + _SLACK:
            raise ValueError(
                f"{self.path} has {size:,} bytes and claims to unpack to {total:,}; weights do not shrink like that, "
                "and it is not read."
            )
        self._headers |= headers
        return {name: header.shape for name, header in headers.items()}

    def read(self, name: str) -> np.ndarray:
        """One of the arrays that `shapes` was asked for, in float32.

        Raises:
            ValueError: a damaged member.
        """
        header = self._headers[name]
        with self._open(name) as file:
            file.read(header.offset)
            values = np.empty(header.nbytes // header.dtype.itemsize, header.dtype)
            target = memoryview(values.view(np.uint8))
            done = 0
            while done < header.nbytes:
                count = file.readinto(target[done : done + _CHUNK])
                if not count:
                    raise zipfile.BadZipFile(f"{name} ends after {done:,} of {header.nbytes:,} bytes")
                done += count
            file.read(1)  # at the end the archive's checksum is compared
        values = values.reshape(header.shape[::-1]).T if header.fortran_order else values.reshape(header.shape)
        if header.dtype.kind == "V":  # NumPy has no name for bfloat16
            values = values.view(ml_dtypes.bfloat16)
        return np.asarray(values, np.float32)

    def _header(self, name: str) -> Header:
        with self._open(name) as file:
            header = npy_header(name, file.read(LONGEST_HEADER))
        if not (header.dtype.kind in "fiu" or (header.dtype.kind == "V" and header.dtype.itemsize == 2)):
            raise ValueError(f"{self.path}: {name} holds {header.dtype}, which are no weights; nothing is unpickled.")
        size = self._members[name].file_size
        if header.offset + header.nbytes != size:
            raise ValueError(
                f"{self.path}: {name} claims {header.dtype}{list(header.shape)}, {header.nbytes:,} bytes, in a member "
                f"of {size:,}; the file is damaged."
            )
        return header

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        with damage(self.path), self._archive.open(self._members[name]) as file:
            yield file


def npy_header(name: str, start: bytes) -> Header:
    """The header of an `.npy` file from its first 10,000 bytes.

    A pattern reads it: NumPy's own parser takes Python literals and fails on broken ones with half a dozen kinds of
    errors.

    Raises:
        ValueError: no header, or one of values that NumPy does not know.
    """
    width = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(start[:8], 0)
    end = 8 + width + int.from_bytes(start[8 : 8 + width], "little")
    match = _HEADER.fullmatch(start[8 + width : end].decode("latin-1")) if width else None
    if match is None or end > len(start):
        raise ValueError(f"{name} has no header of NumPy's format 1.0 or 2.0")
    shape = tuple(int(length.rstrip("L")) for length in match["shape"].replace(",", " ").split())
    try:
        dtype = np.dtype(match["kind"])
    except TypeError as error:
        raise ValueError(f"{name} has values of an unknown kind, {match['kind']}") from error
    return Header(shape, match["fortran"] == "True", dtype, end)


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[NpzArchive]:
    """The archive at `path`; closed at the end of the block.

    Raises:
        ValueError: no zip archive, or a damaged one.
    """
    with contextlib.ExitStack() as stack:
        with damage(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
        yield NpzArchive(path, archive)


@contextlib.contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turns what reading a broken archive can raise into one ValueError that names the file."""
    try:
        yield
    # RuntimeError: an encrypted member; NotImplementedError: an unknown compression; ValueError: a broken .npy header.
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
    ) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); fetch it again.") from error
