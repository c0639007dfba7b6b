import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin

from tests.tfds_builder.raw_fixtures import encode, picture
from tfds_builder import pictures


def with_orientation(image: np.ndarray, orientation: int, image_format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, image_format, exif=exif)


def pillow_upright(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(orientation, image_format):
    data = with_orientation(picture(1), orientation, image_format)
    facts = pictures.inspect(data)
    image, rung = pictures.decode(data)
    assert facts.orientation == orientation
    assert (facts.height, facts.width) == (30, 40)
    assert image.shape[:2] == facts.upright_shape
    assert image.flags.c_contiguous
    assert rung == ("simplejpeg" if image_format == "JPEG" else "opencv")
    np.testing.assert_allclose(image.astype(int), pillow_upright(data), atol=1)


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_exif_orientation_in_both_byte_orders(byte_order):
    mark, order = (b"II", "<") if byte_order == "little" else (b"MM", ">")
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0)
    tiff = mark + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", 1) + entry + bytes(4)
    body = b"Exif\0\0" + tiff
    jpeg = encode(picture(0))
    assert pictures.exif_orientation(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]) == 6


def test_exif_orientation_never_raises_on_garbage():
    rng = np.random.default_rng(0)
    good = bytearray(with_orientation(picture(2), 6, "JPEG"))
    for _ in range(500):
        bad = bytearray(good[: rng.integers(2, 120)] if rng.random() < 0.5 else good)
        for position in rng.integers(2, min(len(bad), 120), 8) if len(bad) > 2 else ():
            bad[position] = rng.integers(256)
        assert 1 <= pictures.exif_orientation(bytes(bad)) <= 8
    assert pictures.exif_orientation(b"") == 1
    assert pictures.exif_orientation(b"\xff\xd8") == 1


def test_facts_of_odd_files():
    image = Image.fromarray(picture(3))
    facts = {
        "cmyk": pictures.inspect(encode(image.convert("CMYK"))),
        "grey": pictures.inspect(encode(image.convert("L"))),
        "rgb": pictures.inspect(encode(image, "PNG")),
        "other": pictures.inspect(encode(image.convert("P"), "GIF")),
    }
    assert {mode: found.mode for mode, found in facts.items()} == {mode: mode for mode in facts}
    assert facts["cmyk"].format == facts["grey"].format == "jpeg"
    assert facts["rgb"].format == "png"
    assert facts["other"].format == "gif"


def test_cmyk_is_right_side_up():
    data = encode(Image.fromarray(picture(4)).convert("CMYK"), quality=95)
    image, _ = pictures.decode(data)
    np.testing.assert_allclose(image.astype(int), pillow_upright(data), atol=2)
    np.testing.assert_allclose(image.astype(float), picture(4), atol=40)  # inverted, it would be off by up to 255


def test_alpha_lies_on_white():
    image = Image.fromarray(picture(5))
    alpha = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    image.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    for image_format in ("PNG", "WEBP"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        decoded, rung = pictures.decode(encode(image, image_format, **options))
        assert rung == "pillow"
        np.testing.assert_allclose(decoded, picture(5) * share + 255 * (1 - share), atol=1.5)


def test_transparent_palette_lies_on_white():
    image = Image.new("P", (2, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (1, 0, 2, 8))
    decoded, _ = pictures.decode(encode(image, "PNG", transparency=0))
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert decoded[0, 1].tolist() == [200, 100, 50]


def test_sixteen_bit_grey_keeps_its_range():
    grey = np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)
    decoded, _ = pictures.decode(encode(Image.fromarray(grey), "PNG"))
    np.testing.assert_allclose(decoded[..., 0], grey / 257, atol=0.51)
    assert (decoded[..., 0] == decoded[..., 2]).all()


def test_first_frame_of_an_animation():
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    decoded, _ = pictures.decode(encode(first, "GIF", save_all=True, append_images=[second]))
    assert decoded[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("progressive", [False, True])
def test_torn_jpeg_is_read_as_far_as_it_goes(progressive):
    whole = encode(picture(6, 160, 160), quality=95, progressive=progressive)
    image, rung = pictures.decode(whole[: len(whole) * 3 // 4])
    assert rung == "pillow-truncated"
    assert image.shape == (160, 160, 3)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    difference = np.abs(image[:64].astype(int) - pillow_upright(whole)[:64])
    assert difference.mean() < (12 if progressive else 0.1)  # progressive files lose detail everywhere, not rows


def test_damaged_jpeg_is_read_by_a_more_forgiving_rung():
    data = bytearray(encode(picture(7), quality=95))
    start = data.index(b"\xff\xc4")  # junk before a table: strict decoders refuse, the picture is whole
    image, rung = pictures.decode(bytes(data[:start]) + bytes(40) + bytes(data[start:]))
    assert rung == "pillow"
    np.testing.assert_allclose(image.astype(int), pillow_upright(bytes(data)), atol=1)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\xff\xd8\xff", encode(picture(8))[:60], encode(picture(8), "PNG")[:300]]
)
def test_unreadable_bytes_are_named(data):
    with pytest.raises(pictures.UnreadablePictureError, match=f"{len(data)} bytes|not a picture"):
        pictures.decode(data)


def test_bombs_are_refused_by_their_header():
    with pytest.raises(pictures.UnreadablePictureError, match=r"too many pixels|more than the limit"):
        pictures.inspect(png_header(30_000, 30_000))
    jpeg = bytearray(encode(picture(9)))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(
        pictures.UnreadablePictureError, match="65000 x 65000 pixels, more than the limit of 89,000,000"
    ):
        pictures.decode(bytes(jpeg))


def test_a_chunk_that_is_longer_than_its_file_is_not_made_room_for():
    """OpenCV would ask for 4 GB, fill them with zeros, and then say that the file is torn."""
    png = encode(picture(9), "PNG")
    start = png.index(b"IDAT") - 4
    data = png[:start] + b"\xff\0\0\x1d" + png[start + 4 :]
    image, rung = pictures.decode(data)
    assert rung == "pillow"
    np.testing.assert_array_equal(image, picture(9))
    assert pictures.decode(png + b"what stands behind the end")[1] == "opencv"


def test_an_edge_that_no_jpeg_has_is_refused():
    with pytest.raises(pictures.UnreadablePictureError, match="1 x 65501 pixels: a JPEG holds at most 65,500 a side"):
        pictures.encode_jpeg(np.zeros((65_501, 1, 3), np.uint8))


@pytest.mark.parametrize("orientation", [1, 6])
def test_scaled_decoding_is_at_least_as_large_as_asked(orientation):
    data = with_orientation(picture(10, 400, 600), orientation, "JPEG")
    full = pillow_upright(data)
    image, _ = pictures.decode(data, min_height=150, min_width=130)
    assert full.shape[0] > image.shape[0] >= 150
    assert full.shape[1] > image.shape[1] >= 130
    assert image.shape[0] / image.shape[1] == pytest.approx(full.shape[0] / full.shape[1], rel=0.02)
    reference = np.asarray(Image.fromarray(full).resize(image.shape[1::-1], Image.Resampling.BOX))
    assert np.abs(image.astype(int) - reference).mean() < 2
    assert pictures.decode(data, min_height=9999, min_width=1)[0].shape == full.shape


def test_threads_agree_with_one_thread():
    data = [encode(picture(seed, 120, 90)) for seed in range(24)]
    alone = [pictures.decode(item)[0] for item in data]
    with ThreadPoolExecutor(8) as pool:
        for expected, (image, _) in zip(alone, pool.map(pictures.decode, data), strict=True):
            np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("resize", [pictures.resize, pictures.resize_fast])
def test_reducing_is_antialiased(resize):
    checkers = np.indices((256, 256)).sum(0) % 2 * 255
    image = np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8)
    small = resize(image, 64, 64)
    assert small.shape == (64, 64, 3)
    assert small.dtype == np.uint8
    np.testing.assert_allclose(small[4:-4, 4:-4], 127.5, atol=3)  # without a filter: all 0 or all 255


@pytest.mark.parametrize("width", [99, 70, 51, 50, 40])
def test_reducing_fast_leaves_no_pixel_out(width):
    one_lit_a_row = np.repeat(255 * np.eye(100, dtype=np.uint8)[..., None], 3, axis=2)
    assert pictures.resize_fast(one_lit_a_row, 100, width).max(axis=(1, 2)).min() > 0


@pytest.mark.parametrize("side", [90, 70, 55])
def test_reducing_fast_comes_close_to_lanczos(side):
    image = picture(5, 100, 100)
    expected = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)).astype(float)
    averaged = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX)).astype(float)
    error = np.square(pictures.resize_fast(image, side, side) - expected).mean()
    assert error < np.square(averaged - expected).mean()


def test_enlarging_and_identity():
    image = picture(11)
    assert pictures.resize_fast(image, 60, 80).shape == (60, 80, 3)
    assert pictures.resize(image, 60, 80).shape == (60, 80, 3)
    np.testing.assert_array_equal(pictures.resize(image, 30, 40), image)
    np.testing.assert_array_equal(pictures.resize_fast(image, 30, 40), image)


def test_encoded_jpeg_keeps_colour_resolution():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    data = pictures.encode_jpeg(stripes)
    assert JpegImagePlugin.get_sampling(Image.open(io.BytesIO(data))) == 0  # 4:4:4
    assert np.abs(pictures.decode(data)[0].astype(int) - stripes).mean() < 8
