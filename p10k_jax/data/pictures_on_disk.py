"""Pictures in files: which of them a path means and what they are called, and their way onto a canvas.

No file stops a run: what cannot be read is told with the reason, and the grey canvas that evaluation shows the model
stands in for it.
"""

import collections
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p10k_jax.data.decode import decode_readable, grey_canvas
from tfds_builder.archives import is_clutter
from tfds_builder.layouts import PICTURE_SUFFIXES
from tfds_builder.pictures import UnreadablePictureError
from tfds_builder.processing import process
from tfds_builder.tables import read_columns

# Where the pictures of a table lie below its folder: beside it, or as the test split's archive is unpacked.
_TABLE_FOLDERS = ("", "test", "test/test")
_MOST_BYTES = 2**30


class Picture(NamedTuple):
    """A picture that was asked for.

    Attributes:
        name: What it is called.
        places: Paths, of which the first that exists is it; none for a name that leads out of its folder.
    """

    name: str
    places: tuple[str, ...]


class Found(NamedTuple):
    """What some paths mean.

    Attributes:
        pictures: In the order of the paths; within a folder by name, within a table as there.
        passed_over: Number of other files in the folders.
    """

    pictures: list[Picture]
    passed_over: int


class Decoded(NamedTuple):
    """A picture on a canvas.

    Attributes:
        canvas: uint8[s, s, 3], the whole picture squashed to a square.
        aspect: Width of the picture divided by its height.
        rung: Index into `decode.RUNGS`.
        error: Why it could not be read, and the canvas is grey; '' where it was.
    """

    canvas: np.ndarray
    aspect: float
    rung: int
    error: str


def find_pictures(paths: Sequence[Path], *, images_root: Path | None = None) -> Found:
    """The pictures that the paths mean, each with a name of its own.

    Args:
        paths: Each is a picture; a folder, searched at any depth for files that are called like pictures (links are
            followed, hidden files are not); or a CSV with a column `name`.
        images_root: Folder of the pictures of a CSV, which else is the CSV's; a picture lies in it or in its `test/`.

    Returns:
        The name is relative to the folder; of a picture its file's; of a CSV as it stands there. Names that would come
        twice get the path that was given in front. Bytes in them that are no UTF-8 are written `\\xff`.

    Raises:
        ValueError: a path that does not exist, a CSV without `name` or with a name twice, none of whose pictures
            exists, a picture given twice, or no picture at all.
    """
    if images_root is not None and not images_root.is_dir():
        raise ValueError(f"--images_root={images_root} is no folder.")
    if images_root is not None and not any(_is_table(path) for path in paths):
        raise ValueError("--images_root is where the pictures of a CSV lie, and --images names no CSV; leave it out.")
    sources, passed_over = [], 0
    for path in paths:
        if path.is_dir():
            pictures, others = _in_folder(path)
            sources.append((str(path), pictures))
            passed_over += others
        elif not path.exists():
            raise ValueError(f"--images: there is no file or folder {path}.")
        elif _is_table(path):
            sources.append((str(path), _in_table(path, images_root or path.parent)))
        else:
            sources.append((str(path.parent), [Picture(_text(path.name), (str(path),))]))
    found = Found(_named_apart(sources), passed_over)
    if not found.pictures:
        endings = ", ".join(PICTURE_SUFFIXES)
        raise ValueError(f"--images: no pictures in {', '.join(map(str, paths)) or 'nothing'}; looked for {endings}.")
    return found


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and not path.is_dir()


def _text(name: str) -> str:
    """A file's name as text that any table can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _in_folder(folder: Path) -> tuple[list[Picture], int]:
    """The pictures in a folder and below it, by name, and the number of other files."""
    pictures, others = [], 0
    for path in _files_below(folder):
        relative = str(path.relative_to(folder))
        if relative.lower().endswith(PICTURE_SUFFIXES) and not is_clutter(relative):
            pictures.append(Picture(_text(relative), (str(path),)))
        else:
            others += not path.is_dir()
    return sorted(pictures), others


def _files_below(folder: Path) -> Iterator[Path]:
    """All files, and folders that are called like pictures; a folder that links lead to twice is entered once."""
    entered, waiting = set(), [folder]
    while waiting:
        here = waiting.pop()
        status = here.stat()
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        for path in sorted(here.iterdir(), reverse=True):
            is_folder = path.is_dir()
            if is_folder and not is_clutter(path.name):
                waiting.append(path)
            if not is_folder or path.name.lower().endswith(PICTURE_SUFFIXES):
                yield path


def _in_table(path: Path, root: Path) -> list[Picture]:
    """The pictures of a CSV, in its order."""
    pictures: dict[str, Picture] = {}
    for line, row in read_columns(str(path), path.read_bytes(), {"name": True}):
        name = row["name"]
        if not name or name in pictures:
            problem = "comes twice" if name else "is empty"
            raise ValueError(f"{path}, row {line}: the name {name!r} {problem}. Take the row out.")
        leads_out = Path(name).is_absolute() or ".." in name.split("/")
        places = () if leads_out else tuple(str(Path(root, folder, name)) for folder in _TABLE_FOLDERS)
        pictures[name] = Picture(name, places)
    if not pictures:
        raise ValueError(f"{path} has a header but no rows.")
    if not any(os.path.lexists(place) for picture in pictures.values() for place in picture.places):
        raise ValueError(
            f"{path}: none of its {len(pictures):,} pictures lies in {root} or in its folder test/ (the first would be "
            f"{next(iter(pictures))!r}); give their folder as --images_root."
        )
    return list(pictures.values())


def _named_apart(sources: Sequence[tuple[str, Sequence[Picture]]]) -> list[Picture]:
    """All pictures; of those that share a name, each with the path that it was given by in front."""
    counts = collections.Counter(picture.name for _, pictures in sources for picture in pictures)
    apart: dict[str, Picture] = {}
    for given, pictures in sources:
        for picture in pictures:
            name = picture.name if counts[picture.name] == 1 else f"{_text(given)}/{picture.name}"
            if name in apart:
                raise ValueError(f"--images: {name!r} comes twice; give every path once.")
            apart[name] = picture._replace(name=name)
    return list(apart.values())


def read_picture(picture: Picture, *, canvas_size: int, shorter_side: int = 0) -> Decoded:
    """Reads a picture; never raises over a bad one.

    Args:
        picture: Of `find_pictures`.
        canvas_size: Side of the canvas in pixels.
        shorter_side: Reduces it first as `tfds_builder` reduces what it prepares, pixels; 0: not at all.
    """
    canvas = np.empty((canvas_size, canvas_size, 3), np.uint8)
    try:
        data = _read_bytes(picture)
        if shorter_side:
            prepared = process(lambda: data, shorter_side)
            if prepared.data is None:
                raise UnreadablePictureError(prepared.reason)
            data = prepared.data
        return Decoded(canvas, *decode_readable(data, canvas), error="")
    except Exception as error:  # files and decoders may raise anything, and one bad file is no reason to stop
        return Decoded(canvas, *grey_canvas(canvas), error=_reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = str(error) or type(error).__name__
    return said if isinstance(error, UnreadablePictureError | OSError) else f"{type(error).__name__}: {said}"


def _read_bytes(picture: Picture) -> bytes:
    """The bytes of a picture's file; nothing that could block or fill the memory is opened."""
    if not picture.places:
        raise UnreadablePictureError("the name leads out of the folder of pictures")
    path = Path(next(filter(os.path.lexists, picture.places), picture.places[0]))
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise UnreadablePictureError("it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadablePictureError("it is no regular file")
    if status.st_size == 0:
        raise UnreadablePictureError("the file is empty")
    if status.st_size > _MOST_BYTES:
        raise UnreadablePictureError(f"the file has {status.st_size:,} bytes, more than the limit of {_MOST_BYTES:,}")
    return path.read_bytes()


def read_pictures(
    pictures: Sequence[Picture], *, canvas_size: int, shorter_side: int, threads: int, ahead: int
) -> Iterator[Decoded]:
    """Reads pictures in their order, in threads, at most `ahead` of them beyond the one that is given."""
    waiting = collections.deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="pictures") as pool:
        try:
            for picture in pictures:
                waiting.append(pool.submit(read_picture, picture, canvas_size=canvas_size, shorter_side=shorter_side))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for read in waiting:
                read.cancel()
