"""Picture bytes to a square uint8 canvas, and a record of what the decode ladder met.

The canvas holds the **whole** picture, squashed to a square; the picture's aspect ratio travels with it, so that the
device cuts undistorted views out of it (`p10k_jax.data.augment`). One fixed shape is what lets a split live in host or
device memory as one array.
"""

import dataclasses

import jax
import numpy as np
from absl import logging

from tfds_builder import pictures
from tfds_builder.terminal import printable

UNREADABLE = "unreadable"
# How a picture was read, by number: 0 is the fast path, 4 is a grey canvas in place of an unreadable picture.
RUNGS = (*pictures.RUNGS, UNREADABLE)
GREY = 128


def decode_canvas(data: bytes, canvas: np.ndarray) -> tuple[float, int]:
    """Decodes a picture into `canvas`.

    Args:
        data: Bytes of a picture file.
        canvas: uint8[s, s, 3], written in place: the whole upright picture, or grey if no decoder reads the bytes.

    Returns:
        The upright picture's width divided by its height (1.0 if unreadable), and the index into `RUNGS`.
    """
    try:
        return decode_readable(data, canvas)
    except pictures.UnreadablePictureError:
        return grey_canvas(canvas)


def decode_readable(data: bytes, canvas: np.ndarray) -> tuple[float, int]:
    """As `decode_canvas`, but raises `UnreadablePictureError`, which says why, and then leaves `canvas` as it was."""
    side = canvas.shape[0]
    # The aspect ratio comes from the header: decoding at k/8 of the size rounds both sides up.
    height, width = pictures.inspect(data).upright_shape
    image, rung = pictures.decode(data, min_height=side, min_width=side)
    canvas[:] = pictures.resize_fast(image, side, side)
    return width / height, RUNGS.index(rung)


def grey_canvas(canvas: np.ndarray) -> tuple[float, int]:
    """What stands in for an unreadable picture: as `decode_canvas` of one."""
    canvas[:] = GREY
    return 1.0, RUNGS.index(UNREADABLE)


@dataclasses.dataclass
class DecodeReport:
    """Counts of how this host's pictures were read, with the first unreadable names, each warned of when it is met."""

    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(len(RUNGS), np.int64))
    unreadable: list[str] = dataclasses.field(default_factory=list)

    def add(self, rungs: np.ndarray, names: list[str]) -> None:
        """Counts one batch: rungs int8[n], and the picture names in the same order."""
        self.counts += np.bincount(rungs, minlength=len(RUNGS))
        for position in np.flatnonzero(rungs == RUNGS.index(UNREADABLE)):
            if names[position] not in self.unreadable and len(self.unreadable) < 20:
                logging.warning(
                    "No decoder reads picture %s; the model sees grey in its place.", printable(names[position])
                )
                self.unreadable.append(names[position])

    def __str__(self) -> str:
        """One line: how many pictures each rung read on this host; names what was unreadable."""
        parts = [f"{count:,} by {rung}" for rung, count in zip(RUNGS, self.counts.tolist(), strict=True) if count]
        named = f" ({', '.join(self.unreadable)}: shown to the model as grey)" if self.unreadable else ""
        here = " on this host" if jax.process_count() > 1 else ""
        return f"decoded{here} " + (", ".join(parts) or "nothing") + named
