"""Draws a catalogue and writes it in the raw layout of Products-10K.

    python -m tfds_builder.drawn_catalogue.write --preset=demo --output=RAW

The folder gets `train.csv` (name,class,group), `test_kaggletest.csv` (name,class,Usage), `classes.csv`
(class,class_name,group,group_name), `train.zip` with members `train/1.jpg`, ... and `test.zip` with members
`test/3963142.jpg`, .... Equal parameters give equal bytes with any number of processes (and the same versions of NumPy,
OpenCV and Pillow on the same kind of processor).
"""

import argparse
import concurrent.futures
import csv
import dataclasses
import functools
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import tqdm

from tfds_builder import processing
from tfds_builder.drawn_catalogue import plan as planning
from tfds_builder.drawn_catalogue.drawing import camera, design, photo, product

IMAGES_PER_TASK = 64
_ZIP_TIME = (2020, 1, 1, 0, 0, 0)

# What a process is given: SKU, its train images, its test images.
_Task = list[tuple[design.SkuDesign, tuple[planning.ImagePlan, ...], tuple[planning.ImagePlan, ...]]]
_Drawn = list[tuple[list[bytes], list[bytes]]]


def write_raw_catalogue(
    parameters: planning.CatalogueParameters,
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draws the catalogue of `parameters` into `folder`, which appears only when all of it is written.

    Memory stays bounded: pictures go into the archives as they are drawn; a few tasks a process are under way.

    Args:
      parameters: see `plan.CatalogueParameters`.
      folder: a path that does not exist, or an empty folder. What is being written lies beside it, in a folder whose
        name ends in `.incomplete-` and random letters; an error removes it.
      workers: processes; None takes all cores that this process may use. 1 draws in this process.
      progress: called with (images done, images in all) after every class or few.

    Raises:
      ValueError: a parameter is out of range, or `workers` is below 1.
      FileExistsError: `folder` exists and is not an empty folder.
      OSError: the disk has not enough room for the estimated size.
    """
    plan = planning.plan(parameters)
    workers = processing.available_cores() if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers={workers}: at least one process is needed; leave it out to use all cores.")
    folder = pathlib.Path(folder).absolute()
    _check_target(folder, parameters)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f"{folder.name}.incomplete-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        _write_tables(plan, unfinished)
        _write_archives(plan, unfinished, workers, progress)
        # Renaming onto an empty folder replaces it; onto one that was filled meanwhile, it fails.
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def estimated_bytes(parameters: planning.CatalogueParameters) -> int:
    """A generous estimate of the size of the archives and tables, bytes."""
    images = parameters.num_train + parameters.num_test
    return images * (1_200 + round(0.40 * parameters.image_side**2)) + 2**20


def draw_images(sku: design.SkuDesign, images: tuple[planning.ImagePlan, ...], image_side: int) -> list[bytes]:
    """Draws `images` of one SKU as JPEG files, longer side `image_side` pixels; a pure function of its arguments."""
    # Rendered a little larger than it can appear, so that laying it into a photo never enlarges it.
    rendered = product.render_product(sku, max(48, round(1.15 * photo.oversampling(image_side) * image_side)))
    files = []
    for image in images:
        rng = np.random.default_rng(image.seed)
        files.append(camera.encode_jpeg(photo.draw_photo(rendered, image.kind, image_side, rng), rng))
    return files


def _check_target(folder: pathlib.Path, parameters: planning.CatalogueParameters) -> None:
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a folder that does not exist yet.")
    if folder.is_dir() and (inside := sorted(path.name for path in folder.iterdir())):
        raise FileExistsError(
            f"{folder} is not empty (it holds {', '.join(inside[:3])}{', ...' if len(inside) > 3 else ''}); "
            "nothing was written. Name another folder, or empty this one first."
        )
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    free, needed = shutil.disk_usage(standing).free, estimated_bytes(parameters)
    if free < needed:
        raise OSError(
            f"{folder}: about {needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free on its disk; "
            "make room, name a folder on another disk, or choose fewer or smaller images."
        )


def _write_tables(plan: planning.CataloguePlan, folder: pathlib.Path) -> None:
    with _table(folder / "classes.csv", "class", "class_name", "group", "group_name") as write:
        for entry in plan.classes:
            write((entry.label, entry.name, entry.group, plan.group_names[entry.group]))
    with _table(folder / "train.csv", "name", "class", "group") as write:
        for entry in plan.classes:
            for image in plan.images("train", entry.label):
                write((image.name, entry.label, entry.group))
    with _table(folder / "test_kaggletest.csv", "name", "class", "Usage") as write:
        for entry in plan.classes:
            for image in plan.images("test", entry.label):
                write((image.name, entry.label, image.usage))


class _table:
    """A CSV file with a header, open for writing rows."""

    def __init__(self, path: pathlib.Path, *columns: str):
        self._path, self._columns = path, columns

    def __enter__(self) -> Callable:
        self._file = self._path.open("w", encoding="utf-8", newline="")
        writer = csv.writer(self._file, lineterminator="\n")
        writer.writerow(self._columns)
        return writer.writerow

    def __exit__(self, *_) -> None:
        self._file.close()


def _write_archives(
    plan: planning.CataloguePlan, folder: pathlib.Path, workers: int, progress: Callable[[int, int], None] | None
) -> None:
    total, done = plan.parameters.num_train + plan.parameters.num_test, 0
    with zipfile.ZipFile(folder / "train.zip", "w") as train, zipfile.ZipFile(folder / "test.zip", "w") as test:
        for task, drawn in _draw_all(plan, workers):
            for (_, train_images, test_images), (train_files, test_files) in zip(task, drawn, strict=True):
                _add_members(train, "train", train_images, train_files)
                _add_members(test, "test", test_images, test_files)
                done += len(train_files) + len(test_files)
            if progress is not None:
                progress(done, total)


def _add_members(
    archive: zipfile.ZipFile, split: str, images: tuple[planning.ImagePlan, ...], files: list[bytes]
) -> None:
    for image, data in zip(images, files, strict=True):
        # A fixed time and mode: the archive's bytes depend on nothing but its content. JPEG does not deflate: stored.
        member = zipfile.ZipInfo(f"{split}/{image.name}", date_time=_ZIP_TIME)
        member.create_system, member.external_attr = 3, 0o644 << 16
        archive.writestr(member, data, compress_type=zipfile.ZIP_STORED)


def _draw_all(plan: planning.CataloguePlan, workers: int) -> Iterator[tuple[_Task, _Drawn]]:
    """Yields tasks and what came of them, in order of class, with a bounded number of tasks under way."""
    side = plan.parameters.image_side
    if workers == 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            for task in _tasks(plan):
                yield task, _draw_task(task, side)
        finally:
            cv2.setNumThreads(threads)
        return
    # 'spawn': a forked child of a process in which JAX or TFDS run threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)
    )
    try:
        draw = functools.partial(_draw_task, image_side=side)
        yield from processing.ordered_map(draw, _tasks(plan), pool, workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _tasks(plan: planning.CataloguePlan) -> Iterator[_Task]:
    task: _Task = []
    number = 0
    for entry in plan.classes:
        task.append((entry.design, plan.images("train", entry.label), plan.images("test", entry.label)))
        number += entry.num_train + entry.num_test
        if number >= IMAGES_PER_TASK:
            yield task
            task, number = [], 0
    if task:
        yield task


def _draw_task(task: _Task, image_side: int) -> _Drawn:
    drawn = []
    for sku, train_images, test_images in task:
        files = draw_images(sku, train_images + test_images, image_side)
        drawn.append((files[: len(train_images)], files[len(train_images) :]))
    return drawn


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builder.drawn_catalogue.write", description="Draws a product catalogue in the raw layout."
    )
    parser.add_argument(
        "--preset", choices=sorted(planning.PRESETS), default="demo", help="where the numbers start from"
    )
    parser.add_argument("--output", required=True, metavar="RAW", help="a folder that does not exist, or an empty one")
    for field in dataclasses.fields(planning.CatalogueParameters):
        parser.add_argument(f"--{field.name}", type=int, metavar="N", help="instead of the preset's")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; all cores if left out")
    flags = parser.parse_args(arguments)
    names = [field.name for field in dataclasses.fields(planning.CatalogueParameters)]
    changes = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
    parameters = dataclasses.replace(planning.PRESETS[flags.preset], **changes)
    start = time.monotonic()
    total = parameters.num_train + parameters.num_test
    try:
        with tqdm.tqdm(total=total, unit="img", desc="drawing", file=sys.stderr) as bar:
            write_raw_catalogue(
                parameters, flags.output, workers=flags.workers, progress=lambda done, _: bar.update(done - bar.n)
            )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    seconds = time.monotonic() - start
    size = sum(path.stat().st_size for path in pathlib.Path(flags.output).iterdir())
    print(
        f"Drew {total:,} images of {parameters.num_classes:,} classes in {parameters.num_groups:,} groups "
        f"in {seconds:.0f} s ({total / seconds:.0f} images a second, {size / 1e6:.1f} MB): {flags.output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
