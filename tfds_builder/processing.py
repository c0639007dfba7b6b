"""What happens to each picture of a build, on all cores, in order, with bounded memory.

Threads are enough: decoding, resizing, encoding, hashing and inflating all release the interpreter lock.
"""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

import numpy as np

from tfds_builder import pictures
from tfds_builder.archives import DamagedMemberError

JPEG_QUALITY = 95
# Pictures in flight for each thread: enough to keep all busy while the writer waits for the slowest one.
_WINDOW_PER_WORKER = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Processed:
    """A picture as it will be stored.

    Attributes:
      data: bytes to store; None where the picture is unreadable.
      digest: SHA-256 of data; b'' where there is none.
      odd: which of ODD_KINDS apply to the raw picture.
      rung: which decoder read it; '' where none did.
      reason: why it is unreadable; else ''.
    """

    data: bytes | None
    digest: bytes = b""
    odd: tuple[str, ...] = ()
    rung: str = ""
    reason: str = ""


ODD_KINDS: dict[str, str] = {
    "not_jpeg": "format is not JPEG",
    "cmyk": "CMYK",
    "greyscale": "greyscale",
    "other_mode": "palette, alpha or 16 bits",
    "exif_rotated": "turned by EXIF",
    "damaged": "damaged, yet read in full size",
    "truncated": "the end is missing, the rest is grey",
    "unreadable": "unreadable",
}


def process(read: Callable[[], bytes], shorter_side: int) -> Processed:
    """Reads, checks and, if asked, reduces one picture. Pure but for `read`; never raises over a bad picture.

    Args:
      read: gives the raw bytes; may raise DamagedMemberError.
      shorter_side: 0 stores the raw bytes untouched, after every byte of the picture was decoded once. Else the
        shorter side in pixels: larger pictures are reduced (upright, antialiased), smaller ones are never enlarged and
        keep their bytes where these are a sound, upright RGB JPEG already; all others are encoded as JPEG.
    """
    try:
        raw = read()
        facts = pictures.inspect(raw)
        # 1 pixel asks for the smallest scaled decoding, which still reads every byte. Reducing from at least twice the
        # size leaves the filter its full quality.
        least = 2 * shorter_side if shorter_side else 1
        image, rung = pictures.decode(raw, min_height=least, min_width=least)
        data = _reduced(raw, facts, image, rung, shorter_side) if shorter_side else raw
    except (pictures.UnreadablePictureError, DamagedMemberError) as error:
        return Processed(data=None, odd=("unreadable",), reason=str(error))
    return Processed(data=data, digest=hashlib.sha256(data).digest(), odd=_odd_kinds(facts, rung), rung=rung)


def _reduced(raw: bytes, facts: pictures.PictureFacts, image: np.ndarray, rung: str, shorter_side: int) -> bytes:
    height, width = reduced_shape(facts.upright_shape, shorter_side)
    sound = rung == "simplejpeg" and facts.mode == "rgb" and facts.orientation == 1
    if (height, width) != facts.upright_shape:
        return pictures.encode_jpeg(pictures.resize(image, height, width), JPEG_QUALITY)
    return raw if sound else pictures.encode_jpeg(image, JPEG_QUALITY)


def reduced_shape(shape: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """(height, width) with the shorter side at most `shorter_side`, proportions kept to the nearest pixel."""
    if min(shape) <= shorter_side:
        return shape
    scale = shorter_side / min(shape)
    return max(round(shape[0] * scale), shorter_side), max(round(shape[1] * scale), shorter_side)


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], pool: Executor, workers: int
) -> Iterator[tuple[Item, Result]]:
    """Yields (item, function(item)) in the order of items, at most a few items per worker ahead."""
    waiting: collections.deque[tuple[Item, Future[Result]]] = collections.deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) >= _WINDOW_PER_WORKER * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _odd_kinds(facts: pictures.PictureFacts, rung: str) -> tuple[str, ...]:
    said = {
        "not_jpeg": facts.format != "jpeg",
        "cmyk": facts.mode == "cmyk",
        "greyscale": facts.mode == "grey",
        "other_mode": facts.mode == "other",
        "exif_rotated": facts.orientation != 1,
        "damaged": facts.format == "jpeg" and rung == "pillow",
        "truncated": rung == "pillow-truncated",
    }
    return tuple(kind for kind, holds in said.items() if holds)
