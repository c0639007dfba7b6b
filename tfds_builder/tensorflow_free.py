"""Lets TFDS build its own datasets where TensorFlow is not installed.

TFDS 4.9.10 builds and reads without TensorFlow, except for two steps of generator-based builders: it spills a split of
more than 1 GB into temporary files through TensorFlow's file layer, and encodes pictures that a builder gives as arrays
with TensorFlow's codecs. Here both are done with plain files and Pillow, for the time of one build.
"""

import contextlib
import importlib.util
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image
from tensorflow_datasets.core import shuffle
from tensorflow_datasets.core.features import image_feature

_HEAD = struct.Struct("<QQQ")  # high and low half of the 128-bit key, bytes of data


class PlainBucket:
    """Stands for shuffle._Bucket: (key, data) pairs in one temporary file, opened only while it is used."""

    def __init__(self, path):
        self._path = Path(path)
        self._length = 0
        self.size = 0

    def __len__(self) -> int:
        return self._length

    def add(self, key: int, data: bytes) -> None:
        """Appends one record."""
        with self._path.open("ab") as file:
            file.write(_HEAD.pack(key >> 64, key & (2**64 - 1), len(data)) + data)
        self._length += 1
        self.size += len(data)

    def flush(self) -> None:
        """Nothing is kept open."""

    def read_values(self) -> Iterator[tuple[int, bytes]]:
        """Yields (key, data) in the order in which they were added."""
        if not self._length:
            return
        with self._path.open("rb") as file:
            while head := file.read(_HEAD.size):
                high, low, size = _HEAD.unpack(head)
                yield (high << 64) | low, file.read(size)

    def del_file(self) -> None:
        """Removes the file."""
        self._path.unlink(missing_ok=True)


def encode_array(encoder, array: np.ndarray) -> bytes:
    """Stands for _ImageEncoder._encode_image: uint8 or uint16[H, W, 1, 3 or 4] as PNG (TFDS's default) or JPEG."""
    squeezed = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    buffer = io.BytesIO()
    if encoder.encoding_format == "jpeg":
        Image.fromarray(squeezed).save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        Image.fromarray(squeezed).save(buffer, "PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Replaces the two steps while the context lasts; does nothing where TensorFlow is installed."""
    if importlib.util.find_spec("tensorflow") is not None:
        yield
        return
    with (
        mock.patch.object(shuffle, "_Bucket", PlainBucket),
        mock.patch.object(image_feature._ImageEncoder, "_encode_image", encode_array),
    ):
        yield
