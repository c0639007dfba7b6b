import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.tfds_builder.raw_fixtures import encode, picture
from tfds_builder import pictures, processing
from tfds_builder.archives import DamagedMemberError


def rotated(image: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(image, exif=exif, quality=95)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_original_bytes_are_untouched():
    for data in (encode(picture(0)), encode(picture(1), "PNG"), rotated(picture(2))):
        assert processing.process(lambda data=data: data, 0).data == data


def test_reduced_pictures_are_upright_and_antialiased():
    data = rotated(picture(3, 300, 400))
    result = processing.process(lambda: data, 128)
    stored = opened(result.data)
    assert stored.size == (128, 171)  # width, height: 300 x 400 stored lying, 400 x 300 upright
    assert stored.getexif().get(0x0112, 1) == 1
    assert result.odd == ("exif_rotated",)
    reference = ImageOps.exif_transpose(opened(data)).resize((128, 171), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(stored).astype(int) - np.asarray(reference)).mean() < 3


def test_smaller_pictures_are_never_enlarged():
    small = encode(picture(4, 40, 50))
    assert processing.process(lambda: small, 64).data == small
    turned = processing.process(lambda: rotated(picture(5, 40, 50)), 64)
    assert opened(turned.data).size == (40, 50)
    for odd in (encode(picture(6, 40, 50), "PNG"), encode(Image.fromarray(picture(6, 40, 50)).convert("L"))):
        stored = opened(processing.process(lambda odd=odd: odd, 64).data)
        assert (stored.format, stored.mode, stored.size) == ("JPEG", "RGB", (50, 40))


@pytest.mark.parametrize(
    ("data", "odd"),
    [
        (encode(picture(0)), ()),
        (encode(picture(0), "PNG"), ("not_jpeg",)),
        (encode(Image.fromarray(picture(0)).convert("CMYK")), ("cmyk",)),
        (encode(Image.fromarray(picture(0)).convert("L")), ("greyscale",)),
        (encode(Image.fromarray(picture(0)).convert("P"), "PNG"), ("not_jpeg", "other_mode")),
        (encode(picture(0), quality=95)[:-200], ("truncated",)),
        (b"no picture", ("unreadable",)),
    ],
)
def test_odd_files_are_told(data, odd):
    result = processing.process(lambda: data, 0)
    assert result.odd == odd
    assert (result.data is None) == ("unreadable" in odd)
    assert set(odd) <= set(processing.ODD_KINDS)


def test_a_damaged_member_is_an_unreadable_picture():
    def read() -> bytes:
        raise DamagedMemberError("train.zip, member 1.jpg is damaged")

    result = processing.process(read, 0)
    assert result.data is None
    assert "member 1.jpg is damaged" in result.reason


def test_a_strip_longer_than_a_jpeg_is_unreadable_where_it_is_to_be_stored_as_one():
    strip = encode(np.zeros((70_000, 2, 3), np.uint8), "PNG")
    assert processing.process(lambda: strip, 0).data == strip
    done = processing.process(lambda: strip, 8)
    assert (done.data, done.odd) == (None, ("unreadable",))
    assert done.reason == "2 x 70000 pixels: a JPEG holds at most 65,500 a side"


def test_ordered_map_keeps_order_and_bounds_what_is_in_flight():
    running, most, lock = 0, 0, threading.Lock()
    taken = []

    def items():
        for item in range(60):
            taken.append(item)
            yield item

    def work(item):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001 * (item % 3))
        with lock:
            running -= 1
        return item * item

    seen = []
    with ThreadPoolExecutor(4) as pool:
        for item, result in processing.ordered_map(work, items(), pool, 4):
            assert len(taken) - item <= 16
            seen.append((item, result))
    assert seen == [(item, item * item) for item in range(60)]
    assert 1 < most <= 4


def test_ordered_map_raises_what_the_work_raises():
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        list(processing.ordered_map(lambda item: 1 // (item - 5), range(100), pool, 2))


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((800, 600), 256, (341, 256)),
        ((600, 800), 256, (256, 341)),
        ((256, 256), 256, (256, 256)),
        ((90, 200), 128, (90, 200)),
        ((5000, 130), 128, (4923, 128)),
    ],
)
def test_reduced_shape(shape, side, expected):
    assert processing.reduced_shape(shape, side) == expected


def test_rungs_are_the_ladder():
    assert processing.process(lambda: encode(picture(0)), 0).rung == pictures.RUNGS[0]
