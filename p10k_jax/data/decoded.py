"""A split decoded once: its canvases as one uint8 memory map, and what else a batch holds of them, beside the data.

A folder holds `images.npy` uint8[N, s, s, 3], `columns.parquet` (`aspect`, `label`, `group`, `rung`, `name`, `usage`)
and `about.json`, and appears by one rename when all of it is on disk. Its name changes with the data's fingerprint, the
split, the canvas, this format and the decoders: other pixels are another folder, and any of them may be deleted.
"""

import dataclasses
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int, Int8, Int32, UInt8

from p10k_jax.data.decode import decode_canvas
from p10k_jax.data.splits import Split
from p10k_jax.files import read_object, write_json
from p10k_jax.parquet import read_parquet
from p10k_jax.weights.npz_files import LONGEST_HEADER, npy_header
from tfds_builder.disk import free_bytes
from tfds_builder.locking import building
from tfds_builder.processing import available_cores, ordered_map

FORMAT = 2  # also to be raised where `pictures` gives other pixels
FOLDER = "decoded"
# What decodes and reduces pictures: another version of one may give other pixels.
_DECODERS = ("simplejpeg", "opencv-python-headless", "pillow")
_IMAGES, _COLUMNS, _ABOUT = "images.npy", "columns.parquet", "about.json"
# Pictures that a thread takes at a time, when decoding and when copying.
_CHUNK_ROWS = 32

Progress = Callable[[int, int], None]


class DamagedError(ValueError):
    """A folder that is not what was written."""


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded split, in the split's order.

    Attributes:
        folder: Where it lies.
        images: uint8[N,s,s,3], a read-only memory map.
        aspect: Width / height of the upright pictures.
        label, group: Of the records.
        rung: How each was read, see `decode.RUNGS`.
        name, usage: str[N].
    """

    folder: Path
    images: UInt8[np.ndarray, "N s s 3"]
    aspect: Float32[np.ndarray, " N"]
    label: Int32[np.ndarray, " N"]
    group: Int32[np.ndarray, " N"]
    rung: Int8[np.ndarray, " N"]
    name: np.ndarray
    usage: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def canvas_size(self) -> int:
        """Side of the canvases in pixels."""
        return self.images.shape[1]

    def start_rows(
        self, indices: Int[np.ndarray, " n"], mask: Bool[np.ndarray, " n"], pool: ThreadPoolExecutor
    ) -> tuple[dict[str, np.ndarray], list[Future]]:
        """The rows of a batch, as `batches.host_batches` gives them, whose images are there when the futures are.

        Where `mask` is False the row is as empty as there: black, with aspect 1.
        """
        columns = {name: getattr(self, name)[indices] for name in ("aspect", "label", "group", "rung", "name", "usage")}
        for name, empty in {"aspect": 1, "label": 0, "group": 0, "rung": 0, "name": "", "usage": ""}.items():
            columns[name][~mask] = empty
        images = np.empty((len(indices), *self.images.shape[1:]), np.uint8)

        def copy(part: slice) -> None:
            # mode='clip' is what lets NumPy write into `out` without a copy between; no index is out of range.
            np.take(self.images, indices[part], axis=0, out=images[part], mode="clip")
            images[part][~mask[part]] = 0

        starts = range(0, len(indices), _CHUNK_ROWS)
        copies = [pool.submit(copy, slice(start, start + _CHUNK_ROWS)) for start in starts]
        return {"image": images, "index": indices.astype(np.int32), "mask": mask} | columns, copies


def decoded_folder(data_dir: Path, split: Split, *, fingerprint: str, canvas_size: int) -> Path:
    """Where a split's canvases lie, or would.

    Args:
        data_dir: Of the prepared dataset.
        split: With its slice.
        fingerprint: Of the data.
        canvas_size: Side in pixels.
    """
    digest = hashlib.sha256(json.dumps(_identity(split, fingerprint, canvas_size), sort_keys=True).encode())
    name = re.sub(r"[^A-Za-z0-9]+", "_", split.name).strip("_")[:40]
    return data_dir / FOLDER / f"{name}-{canvas_size}-{digest.hexdigest()[:16]}"


def decoded_bytes(num_examples: int, canvas_size: int) -> int:
    """Bytes of the canvases: 27.9 GB for the 141,931 training pictures of Products-10K at 256 pixels."""
    return num_examples * canvas_size**2 * 3


@functools.cache
def _decoder_versions() -> dict[str, str]:
    versions = {}
    for package in _DECODERS:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # OpenCV comes under several names
            versions[package] = ""
    return versions


def _identity(split: Split, fingerprint: str, canvas_size: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "split": split.name,
        "examples": len(split),
        "canvas_size": canvas_size,
        "decoders": _decoder_versions(),
    }


def open_decoded(folder: Path) -> Decoded:
    """Opens a folder; its pixels are read when they are used.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: a file in it is missing, cut off or another; the message says which.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist.")
    try:
        about = read_object(folder / _ABOUT, "it is made anew")
        for name in (_IMAGES, _COLUMNS):
            size = about["bytes"][name]
            if (there := (folder / name).stat().st_size) != size:
                raise DamagedError(f"{folder / name} is damaged: it has {there:,} bytes of {size:,}.")
        images = _mapped(folder / _IMAGES)
        table = read_parquet(folder / _COLUMNS, SCHEMA, "it is made anew")
        columns = {
            name: table[name].to_numpy()
            if name not in ("name", "usage")
            else np.array(table[name].to_pylist(), np.str_)
            for name in SCHEMA.names
        }
        expected = (about["examples"], about["canvas_size"], about["canvas_size"], 3)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise error if isinstance(error, DamagedError) else DamagedError(f"{folder} is damaged: {error}") from error
    if images.shape != expected or images.dtype != np.uint8 or len(table) != len(images):
        raise DamagedError(
            f"{folder} is damaged: {images.dtype}{images.shape} with {len(table)} rows is not {expected}."
        )
    return Decoded(folder, images.view(np.ndarray), **columns)


def _mapped(path: Path) -> np.memmap:
    with path.open("rb") as file:
        header = npy_header(path.name, file.read(LONGEST_HEADER))
    if header.dtype != np.uint8:
        raise ValueError(f"{path.name} holds {header.dtype} and no bytes; Python objects are not unpickled")
    if header.offset + header.nbytes != path.stat().st_size:
        raise ValueError(f"{path.name} claims {header.dtype}{header.shape}, which it has no room for")
    order = "F" if header.fortran_order else "C"
    return np.memmap(path, header.dtype, mode="r", offset=header.offset, shape=header.shape, order=order)


def find_decoded(folder: Path) -> Decoded | None:
    """As `open_decoded`; None where there is none, or a damaged one."""
    try:
        return open_decoded(folder)
    except (FileNotFoundError, DamagedError):
        return None


SCHEMA = pa.schema(
    {
        "aspect": pa.float32(),
        "label": pa.int32(),
        "group": pa.int32(),
        "rung": pa.int8(),
        "name": pa.string(),
        "usage": pa.string(),
    }
)


def ensure_decoded(
    data_dir: Path, split: Split, *, fingerprint: str, canvas_size: int, progress: Progress | None = None
) -> Decoded:
    """Opens a split's canvases, and decodes them first where they are not there or damaged.

    One process of a machine decodes, on all its cores; the others wait for it. A killed one leaves a folder
    `incomplete.*`, which the next one removes.

    Args:
        data_dir, split, fingerprint, canvas_size: As for `decoded_folder`.
        progress: Is told pictures done and in all.

    Raises:
        ValueError: the folder cannot be written, or the disk has no room.
    """
    folder = decoded_folder(data_dir, split, fingerprint=fingerprint, canvas_size=canvas_size)
    if (found := find_decoded(folder)) is not None:
        return found
    try:
        with building(folder) as locked:
            if (found := find_decoded(folder)) is not None:  # another process made it while this one waited
                return found
            if locked:  # no living process has one
                for leftover in folder.parent.glob("incomplete.*"):
                    shutil.rmtree(leftover, ignore_errors=True)
            _assert_space(folder, decoded_bytes(len(split), canvas_size))
            _build(folder, split, _identity(split, fingerprint, canvas_size), progress)
    except OSError as error:
        raise _explained(folder, error) from error
    return open_decoded(folder)


def _build(folder: Path, split: Split, identity: dict[str, Any], progress: Progress | None) -> None:
    temporary = folder.with_name(f"incomplete.{socket.gethostname()}-{os.getpid()}_{folder.name}")
    temporary.mkdir()
    try:
        columns = _write_images(temporary / _IMAGES, split, identity["canvas_size"], progress)
        pq.write_table(pa.table(columns, schema=SCHEMA), temporary / _COLUMNS)
        for name in (_IMAGES, _COLUMNS):
            with (temporary / name).open("rb") as file:
                os.fsync(file.fileno())
        sizes = {name: (temporary / name).stat().st_size for name in (_IMAGES, _COLUMNS)}
        write_json(temporary / _ABOUT, identity | {"bytes": sizes})
        if folder.exists() and find_decoded(folder) is None:
            shutil.rmtree(folder)
        try:
            temporary.replace(folder)
        except OSError:
            if find_decoded(folder) is None:  # else: made by another host, where there are no locks
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_images(path: Path, split: Split, canvas_size: int, progress: Progress | None) -> dict[str, list]:
    """Decodes all pictures into one array file; returns the columns."""
    columns = {name: [] for name in SCHEMA.names}
    workers = available_cores()
    decode = functools.partial(_decode_chunk, split, canvas_size)
    with path.open("wb") as file, ThreadPoolExecutor(workers) as pool:
        shape = (len(split), canvas_size, canvas_size, 3)
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(file, header)
        # Written, not mapped: on a full disk a mapped write is a bus error.
        for _, (images, rows) in ordered_map(decode, range(0, len(split), _CHUNK_ROWS), pool, workers):
            file.write(images.data)
            for name, values in rows.items():
                columns[name] += values
            if progress:
                progress(len(columns["label"]), len(split))
    return columns


def _decode_chunk(split: Split, canvas_size: int, start: int) -> tuple[UInt8[np.ndarray, "n s s 3"], dict[str, list]]:
    indices = range(start, min(start + _CHUNK_ROWS, len(split)))
    images = np.empty((len(indices), canvas_size, canvas_size, 3), np.uint8)
    rows = {name: [] for name in SCHEMA.names}
    for canvas, index in zip(images, indices, strict=True):
        example = split.read(index)
        aspect, rung = decode_canvas(example.image, canvas)
        values = (aspect, example.label, example.group, rung, example.name, example.usage)
        for name, value in zip(SCHEMA.names, values, strict=True):
            rows[name].append(value)
    return images, rows


def can_write(data_dir: Path) -> bool:
    """Whether a folder can be made where decoded splits lie; found out by making one."""
    parent = data_dir / FOLDER
    trial = (parent if parent.exists() else data_dir) / f"trial.{socket.gethostname()}-{os.getpid()}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError:
        return False
    return True


_WAY_OUT = "stream the pictures (data.residency='stream'), which needs no room"


def _assert_space(folder: Path, needed: int) -> None:
    """Raises ValueError where the disk cannot hold the canvases."""
    if (free := free_bytes(folder)) < needed:
        raise _no_space(folder, needed, free)


def _no_space(folder: Path, needed: int, free: int) -> ValueError:
    return ValueError(
        f"no space left: the decoded pictures take {needed / 1e9:.2f} GB, but {folder.parent} has {free / 1e9:.2f} GB "
        f"free. Free some, give a data_dir elsewhere, or {_WAY_OUT}."
    )


def _explained(folder: Path, error: OSError) -> ValueError:
    if error.errno == errno.ENOSPC:
        return ValueError(f"no space left while writing {folder}; nothing is kept. Free some, or {_WAY_OUT}.")
    return ValueError(
        f"{folder} cannot be written ({error.strerror or error}). Give a data_dir that can, or {_WAY_OUT}."
    )
