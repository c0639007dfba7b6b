"""The photos that all input pipelines read: enlarged to the size of a shop's originals, as files and as our builds."""

import functools
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import simplejpeg
import tensorflow_datasets as tfds

from p10k_jax.data.splits import open_split
from tfds_builder import pictures
from tfds_builder.prepare import prepare
from tfds_builder.processing import available_cores, ordered_map
from tfds_builder.raw import RawCatalogue, open_catalogue

SHORTER_SIDE, QUALITY = 800, 90  # of the enlarged photos; 4:2:0, as cameras and shops write them
REDUCED = 256  # shorter side of the reduced build
ORIGINALS, REDUCED_FILES, DATA = "originals", f"reduced-{REDUCED}", "data"  # in the scratch folder


def enlarge(data: bytes) -> bytes:
    """A picture file as a JPEG whose shorter side is SHORTER_SIDE; Lanczos."""
    image, _ = pictures.decode(data)
    scale = SHORTER_SIDE / min(image.shape[:2])
    height, width = (round(side * scale) for side in image.shape[:2])
    return simplejpeg.encode_jpeg(pictures.resize(image, height, width), quality=QUALITY, colorsubsampling="420")


def prepare_photos(raw: Path, scratch: Path, say: Callable[[str], None] = print) -> None:
    """Makes what is not there yet in `scratch`: `originals/train/CLASS/*.jpg`, our builds of them in `data/`, and
    `reduced-256/train/CLASS/*.jpg` with the bytes of the reduced build.

    Raises:
        RawLayoutError: `raw` is no catalogue.
    """
    _make(scratch / ORIGINALS, functools.partial(_write_originals, raw), say)
    for size in ("original", REDUCED):
        build(scratch, size)
    _make(scratch / REDUCED_FILES, functools.partial(_write_reduced, build(scratch, REDUCED)), say)


def build(scratch: Path, size: str | int) -> tfds.core.DatasetBuilder:
    """Our build of the enlarged photos, `original` or of a shorter side in pixels; made if it is not there."""
    return prepare(
        "sku_catalogue",
        config=f"{size}-holdout0",
        data_dir=scratch / DATA,
        manual_dir=scratch / ORIGINALS,
        check_source=False,
        progress=False,
    )


def _make(folder: Path, write: Callable[[Path], None], say: Callable[[str], None]) -> None:
    """Writes a folder that appears by one rename."""
    if folder.exists():
        return
    say(f"writing {folder} ...")
    incomplete = folder.with_name(f"incomplete-{folder.name}")
    shutil.rmtree(incomplete, ignore_errors=True)
    write(incomplete)
    incomplete.rename(folder)


def _write_originals(raw: Path, folder: Path) -> None:
    catalogue = open_catalogue(raw)
    for split, rows in (("train", len(catalogue.train)), ("test", 1)):  # a build wants a test split; none is read
        _write_enlarged(catalogue, split, range(rows), folder / split)


def _write_enlarged(catalogue: RawCatalogue, split: str, rows: range, folder: Path) -> None:
    table, threads = catalogue.table(split), available_cores()
    with ThreadPoolExecutor(threads) as pool:
        enlarged = ordered_map(lambda row: enlarge(catalogue.read_row(split, row)), rows, pool, threads)
        for row, data in enlarged:
            _write(folder / str(table.label[row]) / Path(table.name[row]).name, data)


def _write_reduced(builder: tfds.core.DatasetBuilder, folder: Path) -> None:
    split = open_split(builder, "train")
    for index in range(len(split)):
        example = split.read(index)
        _write(folder / "train" / str(example.label) / Path(example.name).name, example.image)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
