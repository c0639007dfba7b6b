"""Picture bytes to pixels and back: what a file is, a decode ladder that survives odd files, resizing, JPEG.

Shared by the dataset builders and by training, so that a picture means the same pixels in both: RGB, upright, uint8.
Every function is pure and thread-safe; simplejpeg, OpenCV and Pillow release the interpreter lock while they work.
"""

import dataclasses
import io
import struct

import cv2
import numpy as np
import simplejpeg
from PIL import Image

# Just below Pillow's own warning limit (89.5 million), so that Pillow never warns about a picture that we accept.
MAX_PIXELS = 89_000_000

MAX_JPEG_SIDE = 65_500  # of libjpeg; the format's own bound is 65,535

# The rungs of the decode ladder, from the fastest and strictest to the most forgiving.
RUNGS = ("simplejpeg", "opencv", "pillow", "pillow-truncated")

# Only containers that product photos come in: Pillow also knows formats that run an interpreter (EPS). Which of them
# exist depends on Pillow's build, and is known only after its plugins are loaded.
Image.init()
_PILLOW_FORMATS = tuple(
    name for name in ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM") if name in Image.OPEN
)
_PILLOW_NAMES = {"MPO": "jpeg"}
_END_OF_IMAGE = b"\xff\xd9"


class UnreadablePictureError(ValueError):
    """No decoder reads the bytes, or their header announces more than MAX_PIXELS pixels."""


@dataclasses.dataclass(frozen=True)
class PictureFacts:
    """What the header of a picture says.

    Attributes:
      format: 'jpeg', 'png', 'webp', 'gif', 'bmp', 'tiff', 'avif' or 'ppm': from the bytes, not the name.
      height: stored rows in pixels, before orientation.
      width: stored columns in pixels, before orientation.
      mode: 'rgb' and 'grey' (8 bits a channel, no alpha), 'cmyk', or 'other' (palette, alpha, 1 or 16 bits).
      orientation: EXIF orientation, 1..8; 1 is upright.
    """

    format: str
    height: int
    width: int
    mode: str
    orientation: int

    @property
    def upright_shape(self) -> tuple[int, int]:
        """(height, width) in pixels after the EXIF orientation is applied."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def inspect(data: bytes) -> PictureFacts:
    """Reads the header only. Raises UnreadablePictureError for bytes that are no picture and for too many pixels."""
    facts = _inspect_jpeg(data) if data[:2] == b"\xff\xd8" else None
    if facts is None:
        facts = _inspect_with_pillow(data)
    if facts.height * facts.width > MAX_PIXELS:
        raise UnreadablePictureError(
            f"the header announces {facts.width} x {facts.height} pixels, more than the limit of {MAX_PIXELS:,}"
        )
    return facts


def exif_orientation(data: bytes) -> int:
    """EXIF orientation 1..8 of JPEG bytes; 1 where there is none or it is damaged. Never raises."""
    return _scan_jpeg(data)[1]


def decode(data: bytes, *, min_height: int = 0, min_width: int = 0) -> tuple[np.ndarray, str]:
    """Decodes a picture, trying strict and fast decoders first.

    Transparent pixels are laid on white, CMYK follows Adobe's inverted convention as Pillow does, of an animation the
    first frame counts, ICC profiles are ignored.

    Args:
      data: the bytes of a picture file.
      min_height: of the upright result. Where both minima are positive, a JPEG may be decoded at k/8 of its size
        (libjpeg's scaled inverse DCT, several times faster) as long as the result is at least this large. 0 asks for
        full size, and a picture smaller than the minimum comes at full size.
      min_width: as min_height.

    Returns:
      (image uint8[height, width, 3], upright RGB; the rung of RUNGS that read it). 'pillow-truncated' means that the
      end of a JPEG is missing and the rest of the picture is grey.

    Raises:
      UnreadablePictureError: no rung reads it; the message says what each one said.
    """
    facts = inspect(data)
    said = []
    for rung in RUNGS:
        try:
            image = _DECODERS[rung](data, facts, min_height, min_width)
        except Exception as error:  # a decoder may raise anything on damaged bytes; the next rung gets its chance
            said.append(f"{rung}: {error or type(error).__name__}")
            continue
        if image is not None:
            return orient(image, facts.orientation), rung
    raise UnreadablePictureError(f"no decoder reads this {facts.format} of {len(data)} bytes ({'; '.join(said)})")


def orient(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels upright: image uint8[H, W, C], EXIF orientation 1..8 -> uint8[H, W, C] or uint8[W, H, C]."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes uint8[H, W, 3] to uint8[height, width, 3] with an antialiased Lanczos-3 filter (Pillow): for builders."""
    if image.shape[:2] == (height, width):
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def resize_fast(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes uint8[H, W, 3] to uint8[height, width, 3] for training: bilinear, and area average below half the size.

    Down to half the size a bilinear mean leaves no pixel out. It comes closer to `resize` there than an area average
    does, in a fifth of the time.
    """
    if image.shape[:2] == (height, width):
        return image
    scales = image.shape[0] / height, image.shape[1] / width
    far = min(scales) >= 1 and max(scales) > 2
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if far else cv2.INTER_LINEAR)


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encodes uint8[H, W, 3] RGB as a baseline JPEG with full colour resolution (4:4:4).

    Flavours of one product often differ in small coloured marks. Halving the colour planes (4:2:0) of a picture that
    was just reduced would throw away colour that the larger original held at this size.

    Raises:
      UnreadablePictureError: a side of more than MAX_JPEG_SIDE pixels, as a thin strip may have.
    """
    if max(image.shape) > MAX_JPEG_SIDE:
        raise UnreadablePictureError(
            f"{image.shape[1]} x {image.shape[0]} pixels: a JPEG holds at most {MAX_JPEG_SIDE:,} a side"
        )
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality, colorsubsampling="444")


# ---- headers ----


def _scan_jpeg(data: bytes) -> tuple[tuple[int, int, int, int] | None, int]:
    """Walks JPEG segments up to the frame header: ((height, width, components, bits) or None, orientation)."""
    orientation, position, end = 1, 2, len(data)
    if data[:2] != b"\xff\xd8":
        return None, 1
    while position + 4 <= end:
        if data[position] != 0xFF:
            position += 1  # junk between segments, which libjpeg skips too
            continue
        marker = data[position + 1]
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # fill byte, or a marker without a length
            position += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD9, 0xDA):  # end of image, start of scan: no frame header came before
            break
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2:
            break
        body = data[position + 4 : position + 2 + length]
        if marker == 0xE1 and orientation == 1 and body[:6] == b"Exif\0\0":
            orientation = _tiff_orientation(body[6:])
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if len(body) < 6:
                break
            bits, height, width, components = struct.unpack(">BHHB", body[:6])
            return (height, width, components, bits), orientation
        position += 2 + length
    return None, orientation


def _tiff_orientation(tiff: bytes) -> int:
    """Orientation tag (0x0112) of the first directory of a TIFF block; 1 where it is absent or damaged."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (offset,) = struct.unpack(order + "I", tiff[4:8])
    if offset + 2 > len(tiff):
        return 1
    (count,) = struct.unpack(order + "H", tiff[offset : offset + 2])
    for entry in range(offset + 2, min(offset + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind = struct.unpack(order + "HH", tiff[entry : entry + 4])
        if tag == 0x0112:
            width, code = (4, "I") if kind == 4 else (2, "H")
            (value,) = struct.unpack(order + code, tiff[entry + 8 : entry + 8 + width])
            return value if 1 <= value <= 8 else 1
    return 1


def _inspect_jpeg(data: bytes) -> PictureFacts | None:
    frame, orientation = _scan_jpeg(data)
    if frame is None or 0 in frame[:3]:
        return None
    height, width, components, bits = frame
    mode = {1: "grey", 3: "rgb", 4: "cmyk"}.get(components, "other") if bits == 8 else "other"
    return PictureFacts("jpeg", height, width, mode, orientation)


def _open_with_pillow(data: bytes) -> Image.Image:
    try:
        # Pillow warns from 89.5 million pixels and refuses twice that; inspect() compares with MAX_PIXELS itself.
        return Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadablePictureError(f"the header announces too many pixels: {error}") from error
    except Exception as error:  # Pillow's plugins raise many types on damaged headers
        start = data[:8].hex(" ") or "nothing"
        raise UnreadablePictureError(f"not a picture: {len(data)} bytes that start with {start}") from error


def _inspect_with_pillow(data: bytes) -> PictureFacts:
    with _open_with_pillow(data) as image:
        name = image.format or "unknown"
        has_alpha = image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info
        mode = "other" if has_alpha else {"RGB": "rgb", "L": "grey", "CMYK": "cmyk"}.get(image.mode, "other")
        exif = image.info.get("exif", b"")
        orientation = _tiff_orientation(exif.removeprefix(b"Exif\0\0")) if isinstance(exif, bytes) else 1
        return PictureFacts(_PILLOW_NAMES.get(name, name.lower()), image.height, image.width, mode, orientation)


# ---- the rungs: each returns stored pixels uint8[H, W, 3], None where it does not apply, or raises ----


def _decode_simplejpeg(data: bytes, facts: PictureFacts, min_height: int, min_width: int) -> np.ndarray | None:
    if facts.format != "jpeg":
        return None
    if min_height <= 0 or min_width <= 0:
        return simplejpeg.decode_jpeg(data)
    if facts.orientation >= 5:
        min_height, min_width = min_width, min_height
    return simplejpeg.decode_jpeg(data, min_height=min(min_height, facts.height), min_width=min(min_width, facts.width))


def _decode_opencv(data: bytes, facts: PictureFacts, min_height: int, min_width: int) -> np.ndarray | None:
    # OpenCV drops alpha instead of laying it on white, and reads palettes its own way: leave those to Pillow. A JPEG
    # that simplejpeg refused is damaged, and OpenCV's libjpeg would complain on stderr where Pillow's is silent.
    if facts.format not in ("png", "webp", "bmp") or facts.mode == "other":
        return None
    if facts.format == "png":
        _check_png_chunks(data)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError("imdecode gives nothing")
    if image.shape != (facts.height, facts.width, 3):
        raise ValueError(f"imdecode gives {image.shape} for {facts.width} x {facts.height} pixels")
    return image


def _check_png_chunks(data: bytes) -> None:
    """Raises ValueError where a chunk claims more bytes than there are: OpenCV asks for them all, up to 4 GB."""
    position, kind = 8, b""
    while position < len(data) and kind != b"IEND":
        kind = data[position + 4 : position + 8]
        length = int.from_bytes(data[position : position + 4], "big")
        if position + 12 + length > len(data):
            raise ValueError(f"the PNG's chunk at byte {position} has {length} bytes and the file ends before")
        position += 12 + length


def _decode_pillow(data: bytes, facts: PictureFacts, min_height: int, min_width: int) -> np.ndarray:
    with _open_with_pillow(data) as image:
        image.load()
        if image.mode.startswith("I"):  # 16 bits a pixel, grey
            grey = np.clip((np.asarray(image).astype(np.int64) + 128) // 257, 0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
            coloured = image.convert("RGBA")
            white = Image.new("RGBA", coloured.size, (255, 255, 255, 255))
            return np.array(Image.alpha_composite(white, coloured).convert("RGB"))
        return np.array(image.convert("RGB"))


def _decode_pillow_truncated(data: bytes, facts: PictureFacts, min_height: int, min_width: int) -> np.ndarray | None:
    # An end-of-image marker behind the torn end makes libjpeg finish with what it has. Pillow's own switch for torn
    # files (ImageFile.LOAD_TRUNCATED_IMAGES) is a global that would change what other threads read.
    if facts.format != "jpeg":
        return None
    return _decode_pillow(data + _END_OF_IMAGE, facts, min_height, min_width)


_DECODERS = {
    "simplejpeg": _decode_simplejpeg,
    "opencv": _decode_opencv,
    "pillow": _decode_pillow,
    "pillow-truncated": _decode_pillow_truncated,
}
