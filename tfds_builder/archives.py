"""Files inside folders and zip archives, listed and read alike, and never extracted to disk.

A source has `paths` (POSIX paths inside it), `sizes` (bytes) and `read(row)`. Zip members are read by position with
one `pread` each, so any number of threads share one descriptor and one index; a pickled source opens its own.
"""

import dataclasses
import functools
import os
import stat
import struct
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

# Products-10K is 20 GB of pictures of about 0.1 MB; these bounds leave room and stop bombs.
MAX_MEMBER_BYTES = 256 << 20
MAX_TOTAL_BYTES = 1 << 40
MAX_RATIO = 200  # unpacked over packed size, for members above 1 MiB; deflate itself cannot exceed 1032
_RATIO_FROM_BYTES = 1 << 20

_MAX_PATH_CHARACTERS = 1024
_ADVICE = "The archive is damaged or made to fill the machine: do not use it, get it from its publisher."

_LOCAL_HEADER_BYTES = 30
_MEMBER = np.dtype([("offset", "i8"), ("packed", "i8"), ("size", "i8"), ("crc", "u4"), ("deflated", "?")])


class RawLayoutError(ValueError):
    """The raw files are not a complete, consistent catalogue; the message names the file, the value and the way out."""


class DamagedMemberError(RawLayoutError):
    """One file of a source cannot be read back whole; the other files may be fine."""


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
    """The regular files below a folder, links followed, hidden files left out."""

    root: str
    paths: tuple[str, ...]
    sizes: np.ndarray  # int64[N], bytes

    @property
    def place(self) -> str:
        """The folder."""
        return self.root

    def select(self, rows: np.ndarray) -> "FolderSource":
        """The same folder with only these files, int64[K], in this order."""
        return FolderSource(self.root, tuple(self.paths[row] for row in rows.tolist()), self.sizes[rows])

    def to_json(self) -> dict:
        """All of it; `source_of_json` is the way back."""
        return {"root": self.root, "paths": self.paths, "sizes": self.sizes.tolist()}

    def describe(self, row: int) -> str:
        """Where the file lies, for messages."""
        return str(Path(self.root) / self.paths[row])

    def read(self, row: int) -> bytes:
        """Bytes of one file. Raises DamagedMemberError; also for one of more than MAX_MEMBER_BYTES."""
        try:
            with (Path(self.root) / self.paths[row]).open("rb") as file:
                data = file.read(MAX_MEMBER_BYTES + 1)  # one byte more than it may have: it can have grown since
        except OSError as error:
            raise DamagedMemberError(f"{self.describe(row)} cannot be read: {error}") from error
        if len(data) > MAX_MEMBER_BYTES:
            raise DamagedMemberError(
                f"{self.describe(row)} has more than {MAX_MEMBER_BYTES:,} bytes, the limit for one file."
            )
        return data


@dataclasses.dataclass(frozen=True, eq=False)
class ZipSource:
    """The members of one zip archive, stored or deflated."""

    archive: str
    paths: tuple[str, ...]
    members: np.ndarray  # _MEMBER[N]

    @property
    def sizes(self) -> np.ndarray:
        """int64[N] bytes, unpacked."""
        return self.members["size"]

    @property
    def place(self) -> str:
        """The archive."""
        return self.archive

    def select(self, rows: np.ndarray) -> "ZipSource":
        """The same archive with only these members, int64[K], in this order."""
        return ZipSource(self.archive, tuple(self.paths[row] for row in rows.tolist()), self.members[rows])

    def to_json(self) -> dict:
        """All of it; `source_of_json` is the way back."""
        return {"archive": self.archive, "paths": self.paths, "members": self.members.tolist()}

    def describe(self, row: int) -> str:
        """Where the member lies, for messages."""
        return f"{self.archive}, member {self.paths[row]}"

    @functools.cached_property
    def _descriptor(self) -> int:
        descriptor = os.open(self.archive, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def __getstate__(self) -> dict:
        return {"archive": self.archive, "paths": self.paths, "members": self.members}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)

    def read(self, row: int) -> bytes:
        """The unpacked bytes of one member; raises DamagedMemberError where length or checksum do not agree."""
        offset, packed, size, crc, deflated = self.members[row].tolist()
        with _OPENING:
            descriptor = self._descriptor
        header = _read_exactly(descriptor, _LOCAL_HEADER_BYTES, offset)
        if len(header) < _LOCAL_HEADER_BYTES or header[:4] != b"PK\x03\x04":
            raise self._damaged(row, "no member starts where the directory says")
        name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
        data = _read_exactly(descriptor, packed, offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes)
        if deflated:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
            except zlib.error as error:
                raise self._damaged(row, str(error)) from error
        if len(data) != size:
            raise self._damaged(row, f"it unpacks to {len(data)} bytes instead of {size}")
        if zlib.crc32(data) != crc:
            raise self._damaged(row, "its checksum (CRC-32) does not agree")
        return data

    def _damaged(self, row: int, reason: str) -> DamagedMemberError:
        return DamagedMemberError(f"{self.describe(row)} is damaged: {reason}. Download the archive again.")


Source = FolderSource | ZipSource

_OPENING = threading.Lock()  # two threads must not both open an archive's descriptor


def source_of_json(value: dict) -> Source:
    """The source that `to_json` wrote down."""
    paths = tuple(value["paths"])
    if "root" in value:
        return FolderSource(value["root"], paths, np.array(value["sizes"], np.int64))
    return ZipSource(value["archive"], paths, np.array([tuple(member) for member in value["members"]], _MEMBER))


def _read_exactly(descriptor: int, count: int, offset: int) -> bytes:
    pieces, missing = [], count
    while missing > 0:  # one pread gives at most about 2 GiB, and may give less
        piece = os.pread(descriptor, missing, offset + count - missing)
        if not piece:
            break
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def open_folder(root: str | os.PathLike) -> FolderSource:
    """Lists a folder (not its pictures' content): about a second for 200,000 files on a local disk."""
    root = str(root)
    found = sorted(_walk(root))
    return FolderSource(
        root=root,
        paths=tuple(path for path, _ in found),
        sizes=np.array([size for _, size in found], np.int64),
    )


def _walk(root: str) -> Iterator[tuple[str, int]]:
    """Paths and sizes of the files below a folder; a list of what waits, for folders may lie deeper than calls may."""
    waiting: list[tuple[str, frozenset[str]]] = [("", frozenset())]
    while waiting:
        inside, above = waiting.pop()
        here = os.path.realpath(Path(root) / inside)
        if here in above:  # a link to a folder that holds it
            continue
        with os.scandir(here) as entries:
            for entry in entries:
                path = f"{inside}/{entry.name}" if inside else entry.name
                if is_clutter(path) or (entry.is_symlink() and not Path(entry.path).exists()):  # or leads round
                    continue
                if entry.is_dir():
                    waiting.append((path, above | {here}))
                elif entry.is_file():
                    yield path, entry.stat().st_size


def open_zip(archive: str | os.PathLike) -> ZipSource:
    """Reads and checks the central directory of a zip archive; no member is read.

    Raises:
      RawLayoutError: not a whole zip archive; a member that is encrypted, is a link, points outside the archive, is
        packed by a method other than deflate, occurs twice, or unpacks to an absurd size.
    """
    archive = str(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = [info for info in opened.infolist() if not info.filename.endswith("/")]
    # ValueError: a name that is not the UTF-8 that it says it is; the others: a directory of nonsense.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise RawLayoutError(
            f"{archive} ({Path(archive).stat().st_size:,} bytes) is not a whole zip archive: {error}. The download was "
            "probably cut short (the directory of a zip is at its end): download the file again."
        ) from error
    archive_bytes = Path(archive).stat().st_size
    members, paths = np.zeros(len(infos), _MEMBER), []
    for row, info in enumerate(infos):
        paths.append(_checked_path(archive, info))
        _check_member(archive, archive_bytes, info)
        members[row] = (
            info.header_offset,
            info.compress_size,
            info.file_size,
            info.CRC,
            info.compress_type == zipfile.ZIP_DEFLATED,
        )
    _check_sizes(archive, archive_bytes, paths, members)
    if len(set(paths)) < len(paths):
        seen: set[str] = set()
        double = next(path for path in paths if path in seen or seen.add(path))
        raise RawLayoutError(f"{archive} holds member {double!r} twice; pack it again with one copy.")
    kept = [row for row, path in enumerate(paths) if not is_clutter(path)]
    return ZipSource(archive=archive, paths=tuple(paths[row] for row in kept), members=members[kept])


def _checked_path(archive: str, info: zipfile.ZipInfo) -> str:
    """The member's path with '/' between folders, or RawLayoutError where it must not be read."""
    if len(info.filename) > _MAX_PATH_CHARACTERS:
        raise RawLayoutError(
            f"{archive}: a member's name has {len(info.filename):,} characters; the limit is {_MAX_PATH_CHARACTERS:,}. "
            f"{_ADVICE}"
        )
    name = info.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
        raise RawLayoutError(
            f"{archive}: member {info.filename!r} points outside the archive's folder. No published archive does that: "
            "do not use the file, get it from its publisher."
        )
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        what = "a symbolic link" if kind == stat.S_IFLNK else "not a plain file"
        raise RawLayoutError(f"{archive}: member {info.filename!r} is {what}. Pack the pictures themselves, as files.")
    if info.flag_bits & 0x1:
        raise RawLayoutError(f"{archive}: member {info.filename!r} is encrypted. Unpack it with its password first.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RawLayoutError(
            f"{archive}: member {info.filename!r} is packed by method {info.compress_type}; only stored and deflated "
            "members are read. Pack it again with an ordinary zip program."
        )
    return str(PurePosixPath(name))


def _check_member(archive: str, archive_bytes: int, info: zipfile.ZipInfo) -> None:
    """Raises RawLayoutError for sizes that no member of this archive can have, before NumPy's integers run over."""
    begin, packed, size = info.header_offset, info.compress_size, info.file_size
    if size > MAX_MEMBER_BYTES:
        raise RawLayoutError(
            f"{archive}: member {info.filename!r} unpacks to {size:,} bytes; the limit for one picture is "
            f"{MAX_MEMBER_BYTES:,}. {_ADVICE}"
        )
    if begin < 0 or begin + packed > archive_bytes:
        raise RawLayoutError(
            f"{archive} has {archive_bytes:,} bytes, but its directory lists members that overlap or lie behind its "
            f"end, first {info.filename!r}. {_ADVICE}"
        )
    if packed > 2 * MAX_MEMBER_BYTES or (info.compress_type == zipfile.ZIP_STORED and packed != size):
        raise RawLayoutError(
            f"{archive}: member {info.filename!r} has {packed:,} bytes, which unpack to {size:,}; that cannot be. "
            f"{_ADVICE}"
        )


def _check_sizes(archive: str, archive_bytes: int, paths: list[str], members: np.ndarray) -> None:
    sizes, packed = members["size"], members["packed"]
    for row in np.flatnonzero((sizes > _RATIO_FROM_BYTES) & (sizes > MAX_RATIO * packed))[:1]:
        raise RawLayoutError(
            f"{archive}: member {paths[row]!r} unpacks from {packed[row]:,} to {sizes[row]:,} bytes, more than "
            f"{MAX_RATIO} times; pictures hardly pack at all. {_ADVICE}"
        )
    if int(sizes.sum()) > MAX_TOTAL_BYTES:
        raise RawLayoutError(
            f"{archive} unpacks to {int(sizes.sum()):,} bytes; the limit is {MAX_TOTAL_BYTES:,}. {_ADVICE}"
        )
    if int(packed.sum()) > archive_bytes:
        raise RawLayoutError(
            f"{archive} has {archive_bytes:,} bytes, but its directory lists members that overlap or lie behind its "
            f"end. {_ADVICE}"
        )


def is_clutter(path: str) -> bool:
    """Whether a path is what operating systems leave behind: hidden files, __MACOSX, Thumbs.db."""
    parts = path.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts) or parts[-1].lower() == "thumbs.db"
