"""How a picture becomes what the model sees in evaluation, kept beside exported weights as `preprocessing.json`."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from p10k_jax.data.augment import Normalisation
from p10k_jax.files import read_json, write_json

FILE = "preprocessing.json"
DTYPES = ("float32", "bfloat16")


class ViewSettings(NamedTuple):
    """The way of a picture.

    Attributes:
        image_size: Side of the square that the model sees, pixels.
        canvas_size: Side of the square that the whole picture is squashed to before it is cropped, pixels.
        crop: Side of the centred square as a fraction of the shorter side; 0 is the whole picture.
        pad: Whether the picture is padded to a square with the mean first.
        mean, std: Of the channels, on the scale 0..1.
        shorter_side: What larger pictures are reduced to and stored as JPEG before all else, as the data was when it
            was prepared, pixels; 0: not at all.
    """

    image_size: int
    canvas_size: int
    crop: float
    pad: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    shorter_side: int = 0

    @property
    def statistics(self) -> Normalisation:
        """`mean` and `std`."""
        return Normalisation(self.mean, self.std)

    def at(self, image_size: int | None, crop: float | None) -> "ViewSettings":
        """The same with another size or crop, as evaluation would take them; None leaves what is."""
        size = image_size or self.image_size
        canvas = max(self.canvas_size, -(-size * 8 // 7))
        return self._replace(image_size=size, canvas_size=canvas, crop=self.crop if crop is None else crop)


class Preprocessing(NamedTuple):
    """What `preprocessing.json` holds.

    Attributes:
        views: The way of a picture.
        dtype: What the model computes in.
        notes: What a person should know before trusting the numbers.
    """

    views: ViewSettings
    dtype: str
    notes: tuple[str, ...]


def write_preprocessing(folder: Path, preprocessing: Preprocessing) -> None:
    """Writes `preprocessing.json`."""
    told = {"dtype": preprocessing.dtype, "notes": list(preprocessing.notes)}
    write_json(folder / FILE, preprocessing.views._asdict() | told)


def read_preprocessing_file(folder: Path) -> Preprocessing:
    """Reads what `write_preprocessing` wrote.

    Raises:
        ValueError: no such file, or values that are none; the message names them.
    """
    path = folder / FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no {FILE}; is it a folder of p10k_jax.export? An older one is exported anew.")
    told = read_json(path, "export anew")
    wrong = _wrong(told)
    if wrong:
        raise ValueError(f"{path}: {wrong}; export anew.")
    values = {key: tuple(told[key]) if isinstance(told[key], list) else told[key] for key in ViewSettings._fields}
    return Preprocessing(ViewSettings(**values), told["dtype"], tuple(told["notes"]))


def _wrong(told: Any) -> str:
    """The first value that is out of its range, in words; '' for none."""
    if not isinstance(told, dict):
        return "an object is needed"
    ranges = {
        "image_size": lambda value: type(value) is int and 0 < value < 2**15,
        "canvas_size": lambda value: type(value) is int and 0 < value < 2**15,
        "shorter_side": lambda value: type(value) is int and 0 <= value < 2**15,
        "crop": lambda value: _is_number(value) and 0 <= value <= 1,
        "pad": lambda value: type(value) is bool,
        "mean": _is_triple,
        "std": lambda value: _is_triple(value) and min(value) > 0,
        "dtype": lambda value: value in DTYPES,
        "notes": lambda value: isinstance(value, list) and all(isinstance(note, str) for note in value),
    }
    return next((f"{key}={told.get(key)!r}" for key, holds in ranges.items() if not holds(told.get(key))), "")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))
