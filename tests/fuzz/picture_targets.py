"""Targets of pictures: their bytes, and lists of them."""

from pathlib import Path

import numpy as np

from p10k_jax.data.decode import GREY, RUNGS, decode_canvas
from p10k_jax.data.pictures_on_disk import find_pictures, read_pictures
from tests.fuzz import folders
from tests.fuzz.check import Target
from tfds_builder import pictures
from tfds_builder.processing import process

_CANVAS = 24


def _pictures(data: bytes, folder: Path) -> None:
    """A picture's header, its pixels, its reduced form, its canvas."""
    canvas = np.zeros((_CANVAS, _CANVAS, 3), np.uint8)
    aspect, rung = decode_canvas(data, canvas)
    assert 0 < aspect < np.inf
    assert 1 <= pictures.exif_orientation(data) <= 8
    for shorter_side in (0, _CANVAS):
        done = process(lambda: data, shorter_side)
        assert bool(done.reason) == (done.data is None)
        if shorter_side and done.data is not None:
            assert min(pictures.inspect(done.data).upright_shape) <= shorter_side
    if RUNGS[rung] == "unreadable":
        assert (canvas == GREY).all()
        pictures.decode(data)  # raises
        raise AssertionError("decoded, but not onto a canvas")
    image, _ = pictures.decode(data)
    assert (image.dtype, image.shape) == (np.uint8, (*pictures.inspect(data).upright_shape, 3))


def _picture_lists(data: bytes, folder: Path) -> None:
    """A folder of pictures and a CSV of names, as prediction takes them."""
    folders.write(folders.unpack(data), folder)
    paths = [folder, *sorted(folder.glob("*.csv"))]
    found = find_pictures(paths).pictures
    assert len({picture.name for picture in found}) == len(found)
    for read in read_pictures(found, canvas_size=_CANVAS, shorter_side=16, threads=1, ahead=2):
        assert read.canvas.shape == (_CANVAS, _CANVAS, 3)
        assert bool(read.error) == (RUNGS[read.rung] == "unreadable")


TARGETS = {
    "pictures": Target(_pictures, (pictures.UnreadablePictureError,)),
    "picture_lists": Target(_picture_lists, (ValueError,), most_bytes=1 << 12),
}
