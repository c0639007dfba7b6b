"""Says what is on pictures: one row a picture, out of a run or an export.

    python -m p10k_jax.predict --workdir=W --images=PATH[,PATH…] --output=OUT.{csv,parquet,jsonl}
    python -m p10k_jax.predict --export=DIR --images=test.csv --images_root=RAW --submission=FILE.csv

A PATH is a picture, a folder (searched at any depth) or a CSV with a column `name` whose pictures lie beside it, in
`test/` beside it, or so under `--images_root`. The columns:

    name         relative to the folder given; of a single picture its file's; of a CSV as it stands there. Names that
                 would come twice (two folders given) get the PATH in front.
    top5_labels  names of the likeliest classes as the catalogue calls them, at most five
    top5_scores  their probabilities (softmax), descending
    error        why the picture could not be read, and the lists are empty; else empty. A torn JPEG is read as far as
                 it goes, as in evaluation.
    embedding    with --embeddings, float32[d]; none of an unreadable picture

A picture goes the way of the run's evaluation, so that the rows of a test split are those of its `predictions.parquet`.
`--submission` writes what Kaggle's competition takes, `name,class` with a row for every picture; the row of one that
cannot be read says what the model makes of grey. Files appear whole or not at all. One host; the batch is split over
its devices.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from p10k_jax import buckets, setup
from p10k_jax.classifier import Apply, Classifier, classifier_of_export, classifier_of_run
from p10k_jax.config import clear_errors, run_program
from p10k_jax.data.augment import evaluation_crops
from p10k_jax.data.batches import check_divides
from p10k_jax.data.decode import GREY, RUNGS
from p10k_jax.data.pictures_on_disk import Decoded, Found, Picture, find_pictures, read_pictures
from p10k_jax.data.view_settings import ViewSettings
from p10k_jax.evaluation.predictions import top_classes
from p10k_jax.models.functional import Tree
from p10k_jax.reporting.progress import Console, duration_text
from p10k_jax.reporting.row_writers import Row, Write, check_file, check_table, open_submission, open_table
from p10k_jax.training.mesh import batch_sharding, make_mesh, replicated
from tfds_builder.processing import available_cores

_MOST_A_DEVICE = 64
Rows = dict[str, Array]  # labels int32[b, k], scores float32[b, k], embedding float32[b, d] or [b, 0]
Step = Callable[[Tree, UInt8[Array, "b s s 3"], Float[Array, " b"]], Rows]


class Prediction(NamedTuple):
    """Predictions that were checked and are ready to be made."""

    found: Found
    classifier: Classifier
    views: ViewSettings
    step: Step
    embedding_size: int
    mesh: Mesh
    batch_size: int
    threads: int
    output: Path | None
    submission: Path | None


class Told(NamedTuple):
    """How it went: pictures in all, those that could not be read, and torn ones that were read as far as they go."""

    pictures: int
    unreadable: int
    torn: int


def plan(
    images: Sequence[Path],
    *,
    workdir: Path | None = None,
    export: Path | None = None,
    output: Path | None = None,
    submission: Path | None = None,
    checkpoint: str = "",
    images_root: Path | None = None,
    embeddings: bool = False,
    image_size: int | None = None,
    crop: float | None = None,
    batch_size: int | None = None,
    threads: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Prediction:
    """Checks everything that can be checked before the first picture; writes nothing.

    Args:
        images: Pictures, folders and CSVs; see `find_pictures`.
        workdir, export: Of a run, or a folder of `p10k_jax.export`: one of the two.
        output, submission: Files to write: one of the two, or both.
        checkpoint: Of the workdir: `best`, `last` or a step; empty: the best, or the last where none was evaluated.
        images_root: Where the pictures of a CSV lie.
        embeddings: Whether the table has them.
        image_size, crop: As in `p10k_jax.evaluate`; default: the run's.
        batch_size: Over all devices; default: 64 a device, fewer where there are fewer pictures.
        threads: That decode; 0: one a core.
        devices: Default: all.

    Raises:
        ValueError: any of them cannot be; the message says which and why.
    """
    if jax.process_count() > 1:
        raise ValueError(f"{jax.process_count()} hosts: predict runs on one; give each host a part of the pictures.")
    if (workdir is None) == (export is None):
        raise ValueError("give either --workdir, of a run, or --export, a folder of p10k_jax.export.")
    if export is not None and checkpoint:
        raise ValueError(f"--checkpoint={checkpoint} chooses in a --workdir; an export holds one.")
    _check_files(images, output, submission, embeddings=embeddings)
    found = find_pictures(images, images_root=images_root)
    classifier = classifier_of_run(workdir, checkpoint) if export is None else classifier_of_export(export)
    views = classifier.views.at(image_size, crop)
    if classifier.fixed_size and views.image_size != classifier.views.image_size:
        raise ValueError(
            f"--image_size={image_size}, but {export} is a program for {classifier.views.image_size} pixels; give the "
            "--workdir, or export it so."
        )
    mesh = make_mesh(devices=devices)
    shards = mesh.devices.size
    batch_size = batch_size or shards * min(_MOST_A_DEVICE, -(-len(found.pictures) // shards))
    check_divides(batch_size, batch_sharding(mesh))
    step = make_step(classifier.apply, views, num_classes=len(classifier.classes), embeddings=embeddings)
    canvases = jax.ShapeDtypeStruct((batch_size, views.canvas_size, views.canvas_size, 3), np.uint8)
    aspects = jax.ShapeDtypeStruct((batch_size,), np.float32)
    shapes = jax.eval_shape(step, classifier.weights, canvases, aspects)  # raises for a size that is none
    return Prediction(
        found=found,
        classifier=classifier,
        views=views,
        step=jax.jit(step, out_shardings=replicated(mesh)),
        embedding_size=shapes["embedding"].shape[1],
        mesh=mesh,
        batch_size=batch_size,
        threads=threads or available_cores(),
        output=output,
        submission=submission,
    )


def _check_files(images: Sequence[Path], output: Path | None, submission: Path | None, *, embeddings: bool) -> None:
    if output is None and submission is None:
        raise ValueError("give --output, --submission or both.")
    if output is not None:
        check_table(output, embeddings=embeddings)
    elif embeddings:
        raise ValueError("--embeddings go into --output; give one.")
    if submission is not None:
        check_file(submission, setting="submission")
    written = [path.resolve() for path in (output, submission) if path is not None]
    if len(set(written)) < len(written):
        raise ValueError(f"--output and --submission are the same file, {output}; give two.")
    for path in images:
        if path.resolve() in written:
            raise ValueError(f"{path} is one of --images and would be written over; give another file.")


def make_step(apply: Apply, views: ViewSettings, *, num_classes: int, embeddings: bool) -> Step:
    """`(weights, canvases, aspects) -> rows`: `labels` and `scores` of the likeliest classes, and the `embedding`."""
    crops = evaluation_crops(image_size=views.image_size, crop=views.crop, mean=views.mean, pad=views.pad)

    def step(weights: Tree, canvases: Array, aspects: Array) -> Rows:
        logits, embedding = apply(weights, crops(canvases, aspects))
        labels, scores = top_classes(logits, num_classes)
        return {"labels": labels, "scores": scores, "embedding": embedding if embeddings else embedding[:, :0]}

    return step


def predict(prediction: Prediction, console: Console) -> Told:
    """Writes the files and returns how it went."""
    found, classifier = prediction.found, prediction.classifier
    passed_over = f"; {found.passed_over:,} other files passed over" if found.passed_over else ""
    console.say(f"{len(found.pictures):,} pictures{passed_over}; {classifier.source}")
    for note in classifier.notes:
        console.say(f"note: {note}")
    unreadable, torn, done, started = 0, 0, 0, time.monotonic()
    with contextlib.ExitStack() as stack:
        writers = _open_files(prediction, stack)
        for rows, decoded in predicted_batches(prediction):
            for write in writers:
                write(rows)
            unreadable += sum(bool(picture.error) for picture in decoded)
            torn += sum(RUNGS[picture.rung] == "pillow-truncated" for picture in decoded)
            if not done:
                started = time.monotonic()  # the first batch held the compilation
            else:
                counted = done + len(rows) - prediction.batch_size
                console.live(_progress_line(done + len(rows), len(found.pictures), counted, started))
            done += len(rows)
    return Told(done, unreadable, torn)


def _open_files(prediction: Prediction, stack: contextlib.ExitStack) -> list[Write]:
    writers = []
    if prediction.output is not None:
        said = {"source": prediction.classifier.source} | {
            key: str(value) for key, value in prediction.views._asdict().items() if key in ("image_size", "crop")
        }
        table = open_table(prediction.output, embedding_size=prediction.embedding_size, said=said)
        writers.append(stack.enter_context(table))
    if prediction.submission is not None:
        writers.append(stack.enter_context(open_submission(prediction.submission)))
    return writers


def _progress_line(done: int, total: int, counted: int, started: float) -> str:
    speed = counted / max(time.monotonic() - started, 1e-9)
    left = duration_text((total - done) / max(speed, 1e-9))
    return f"{done:,} of {total:,} pictures  {speed:,.0f} img/s  {left} left"


def predicted_batches(prediction: Prediction) -> Iterator[tuple[list[Row], list[Decoded]]]:
    """The rows of each batch in the pictures' order, with how they were read, without their pixels.

    Threads decode ahead of the device, and rows are fetched one batch late, while the device works on the next. Every
    batch has one shape; what the last one lacks is filled with grey and dropped.
    """
    views, batch_size = prediction.views, prediction.batch_size
    weights = jax.device_put(prediction.classifier.weights, replicated(prediction.mesh))
    pictures = prediction.found.pictures
    decoded = read_pictures(
        pictures,
        canvas_size=views.canvas_size,
        shorter_side=views.shorter_side,
        threads=prediction.threads,
        ahead=batch_size + prediction.threads,
    )
    late: tuple[Rows, Sequence[Picture], list[Decoded]] | None = None
    for first in range(0, len(pictures), batch_size):
        batch = list(itertools.islice(decoded, batch_size))
        placed = jax.device_put(_arrays(batch, batch_size), batch_sharding(prediction.mesh))
        result = prediction.step(weights, *placed)
        if late is not None:
            yield _rows(prediction, *late), late[2]
        plain = [picture._replace(canvas=None) for picture in batch]
        late = result, pictures[first : first + batch_size], plain
    yield _rows(prediction, *late), late[2]


def _arrays(batch: Sequence[Decoded], batch_size: int) -> tuple[UInt8[np.ndarray, "b s s 3"], Float[np.ndarray, " b"]]:
    canvases = np.full((batch_size, *batch[0].canvas.shape), GREY, np.uint8)
    aspects = np.ones(batch_size, np.float32)
    for row, picture in enumerate(batch):
        canvases[row], aspects[row] = picture.canvas, picture.aspect
    return canvases, aspects


def _rows(prediction: Prediction, result: Rows, pictures: Sequence[Picture], decoded: Sequence[Decoded]) -> list[Row]:
    names, values = prediction.classifier.classes.names, jax.device_get(result)
    labels, scores = values["labels"].tolist(), values["scores"].tolist()
    rows = []
    for row, (picture, read) in enumerate(zip(pictures, decoded, strict=True)):
        likeliest = [names[label] for label in labels[row]]
        if read.error:
            rows.append(Row(picture.name, [], [], read.error, likeliest[0]))
        else:
            embedding = values["embedding"][row] if prediction.embedding_size else None
            rows.append(Row(picture.name, likeliest, scores[row], "", likeliest[0], embedding))
    return rows


def main() -> None:
    """Reads the flags, predicts, says how it went."""
    given, console = flags.FLAGS, Console()
    with clear_errors():

        def folder(setting: str) -> Path | None:
            value = given[setting].value
            return setup.local_folder(value, setting=setting) if value else None

        prediction = plan(
            [setup.local_folder(path, setting="images") for path in given.images],
            workdir=buckets.opened(given.workdir, setting="workdir", writes=False).folder if given.workdir else None,
            export=folder("export"),
            output=folder("output"),
            submission=folder("submission"),
            checkpoint=given.checkpoint,
            images_root=folder("images_root"),
            embeddings=given.embeddings,
            image_size=given.image_size,
            crop=given.crop,
            batch_size=given.batch_size,
            threads=given.threads,
        )
        told = predict(prediction, console)
    if told.torn:
        console.say(f"  {told.torn:,} are torn and were read as far as they go")
    if told.unreadable:
        console.say(f"  {told.unreadable:,} could not be read; the column `error` says why")
        if prediction.submission:
            console.say("  the submission has the class of a grey picture for them, as evaluation counts them")
    written = " and ".join(str(path) for path in (prediction.output, prediction.submission) if path)
    console.say(f"{told.pictures:,} rows in {written}")


def define_flags() -> None:
    """Defines this program's flags."""
    flags.DEFINE_string("workdir", None, "Folder of a run of p10k_jax.train, or gs://BUCKET/PATH.")
    flags.DEFINE_string("export", None, "Folder of p10k_jax.export, of either format; instead of --workdir.")
    flags.DEFINE_list("images", None, "Pictures, folders of pictures and CSVs with a column `name`.")
    flags.DEFINE_string("images_root", None, "Folder of the pictures of a CSV; default: the CSV's.")
    flags.DEFINE_string("output", None, "Table to write: .csv, .parquet or .jsonl.")
    flags.DEFINE_string("submission", None, "Kaggle's submission to write: a CSV with name,class.")
    flags.DEFINE_boolean("embeddings", False, "A column with what the classifier sees; not in a .csv.")
    flags.DEFINE_string(
        "checkpoint", "", "best, last or a step; empty: the best, or the last where none was evaluated."
    )
    flags.DEFINE_integer("batch_size", None, "Over all devices; default: 64 a device.", lower_bound=1)
    flags.DEFINE_integer("image_size", None, "Side of what the model sees, pixels; default: the run's.", lower_bound=1)
    flags.DEFINE_float(
        "crop", None, "Centred square, fraction of the shorter side; 0: the whole picture; default: the run's."
    )
    flags.DEFINE_integer("threads", 0, "Decoding threads; 0: one a core.", lower_bound=0)


if __name__ == "__main__":
    run_program(main, define_flags, required=("images",))
