"""Evaluates a run on a split: every image exactly once, predictions and figures into the workdir.

python -m p10k_jax.evaluate --workdir=W --split=test [--checkpoint=best|last|STEP]
    [--image_size=224,280 --crop=0.0,1.0 --flip] [--embeddings] [--neighbours]
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tensorflow_datasets as tfds
from absl import flags
from jax.sharding import Mesh
from jaxtyping import Int
from ml_collections import ConfigDict

from p10k_jax import buckets, hosts, setup
from p10k_jax.compilation_cache import keep_compiled
from p10k_jax.config import clear_errors, read_workdir, run_program
from p10k_jax.data.classes import FILE as CLASSES
from p10k_jax.data.classes import Classes, classes_of, read_classes, write_classes
from p10k_jax.data.splits import Split, has_stored_labels, open_split, split_labels
from p10k_jax.evaluation.files import write_embeddings, write_evaluation
from p10k_jax.evaluation.metrics import metrics
from p10k_jax.evaluation.summary import summary
from p10k_jax.neighbour_evaluation import (
    NEIGHBOURS,
    Judges,
    judge,
    neighbours_summary,
    plan_judges,
    run_passes,
    write_judgement,
)
from p10k_jax.reporting.gallery import FILE as GALLERY
from p10k_jax.reporting.gallery import choose, write_gallery
from p10k_jax.reporting.progress import Console
from p10k_jax.reporting.run_page import FILE as REPORT
from p10k_jax.reporting.run_page import write_run_page
from p10k_jax.stopping import exit_codes
from p10k_jax.training.checkpoint import Checkpoints, abstract_state
from p10k_jax.training.mesh import make_mesh, state_shardings
from p10k_jax.training.state import State, evaluation_weights, initial_weights


class Evaluation(NamedTuple):
    """An evaluation that was checked and is ready to run; `judges` where the embeddings are judged."""

    workdir: Path
    folder: Path
    evaluator: setup.Evaluator
    step: int
    settings: dict[str, Any]
    load: Callable[[], State]
    classes: Callable[[], Classes]
    examples: Callable[[], tuple[Split, Int[np.ndarray, " n"]]] | None = None
    embeddings: bool = False
    judges: Judges | None = None


def plan(
    workdir: Path,
    split: str,
    checkpoint: str,
    *,
    batch_size: int | None = None,
    image_size: int | Sequence[int] | None = None,
    crop: float | Sequence[float] | None = None,
    flip: bool = False,
    data_dir: str | None = None,
    embeddings: bool = False,
    neighbours: bool = False,
    gallery: bool = True,
) -> Evaluation:
    """Checks everything that can be checked before the first batch; writes nothing.

    Args:
        workdir: Of a run.
        split: Of the run's dataset.
        checkpoint: `best`, `last` or a step.
        batch_size: Global; default: the run's.
        image_size: Side of what the model sees, pixels; default: the run's. Larger than in training is often better
            (Touvron et al., arXiv 1906.06423). Several: each is a view, and predictions are averaged over views.
        crop: Centred square as a fraction of the shorter side, 0 for the whole picture squashed; default: the run's.
            Several: each with each image size.
        flip: Each view also mirrored.
        data_dir: Where the prepared data lies; default: where it was in training. It must be the same data.
        embeddings: Writes them too.
        neighbours: Judges the embeddings too.
        gallery: Keeps small pictures of mistakes, with examples of the classes, for the page.

    Raises:
        ValueError: no run, no such split or checkpoint, other data, a batch that the mesh does not divide.
    """
    config = read_workdir(workdir)
    config.eval.batch_size = batch_size or config.eval.batch_size
    sizes, crops = _several(image_size, config.eval.image_size), _several(crop, config.eval.crop)
    if min(sizes) < 1:
        raise ValueError(f"--image_size={sizes}: sides in pixels, at least 1.")
    seen = setup.Seen(sizes, crops, flip)
    config.data.canvas_size = max(config.data.canvas_size, -(-max(sizes) * 8 // 7))
    builder = setup.open_data(config, data_dir=data_dir)
    data = open_split(builder, split)
    mesh = _mesh_here(config)
    model = setup.make_model(config)
    make = functools.partial(setup.make_evaluator, config, model, mesh=mesh, seen=seen, builder=builder)
    evaluator = make(data, embed=embeddings or neighbours, neighbours=NEIGHBOURS if neighbours else 0)
    judges = plan_judges(config, builder, data, make) if neighbours else None
    checkpoints = Checkpoints(workdir / "checkpoints", metric="top1", read_only=True)
    step = checkpoints.resolve(checkpoint)
    shapes = jax.eval_shape(functools.partial(initial_weights, model, ema=config.ema_decay > 0), jax.random.key(0))
    shardings = state_shardings(mesh, shapes, config.sharding_rules)
    load = functools.partial(checkpoints.restore, step, abstract_state(shapes, shardings))
    train = open_split(builder, config.data.train_split)
    return Evaluation(
        workdir=workdir,
        folder=workdir / "eval" / split,
        evaluator=evaluator,
        step=step,
        settings=seen.as_settings(),
        load=load,
        classes=functools.partial(classes_of, builder, train),
        examples=functools.partial(_examples, builder, train) if gallery else None,
        embeddings=embeddings,
        judges=judges,
    )


def _examples(builder: tfds.core.DatasetBuilder, train: Split) -> tuple[Split, Int[np.ndarray, " n"]]:
    """The training split with the labels of its records; with none where telling them means reading all pictures."""
    return train, split_labels(builder, train) if has_stored_labels(builder, train) else np.zeros(0, np.int32)


def _several(given: Any, default: Any) -> tuple:
    """One value or several as a tuple. Raises ValueError for none, or one that stands twice and would count twice."""
    given = default if given is None else given
    values = tuple(given) if isinstance(given, Sequence) else (given,)
    if not values or len(set(values)) < len(values):
        raise ValueError(f"sizes or crops {list(values)}: give at least one, and each once.")
    return values


def _mesh_here(config: ConfigDict) -> Mesh:
    """The run's mesh where it fits the devices at hand, else all of them on `data`: predictions are the same."""
    try:
        return make_mesh(**config.mesh)
    except ValueError:
        return make_mesh()


def evaluate(evaluation: Evaluation, console: Console) -> dict[str, Any]:
    """Writes `eval/<split>/{metrics.json,predictions.parquet}`, says the figures that count most and returns all.

    The page `report.html` is made anew, with pictures where the evaluation was planned so. Embeddings and what their
    neighbours say are written too, where it was planned with them. A workdir without `classes.csv`, of an earlier
    version, gets one. Only process 0 writes and has more than `metrics`.
    """
    split = evaluation.evaluator.split
    console.say(f"{split.dataset} {split.name}: {len(split):,} images; checkpoint of step {evaluation.step:,}")
    weights = evaluation_weights(evaluation.load())
    judgement = None
    if evaluation.judges:
        passes = run_passes(evaluation.judges, evaluation.evaluator, weights, console)
        predictions = passes.split
        judgement = judge(passes, num_classes=split.num_classes, console=console)
    else:
        predictions, report = evaluation.evaluator.run(
            *weights, progress=lambda done, steps: console.live(f"batch {done:,} of {steps:,}")
        )
        console.say(str(report))
    if jax.process_index() != 0:
        return metrics(predictions.table)
    if not (evaluation.workdir / CLASSES).exists():
        write_classes(evaluation.workdir, evaluation.classes())
    classes = read_classes(evaluation.workdir)
    said = {"step": evaluation.step} | evaluation.settings
    if evaluation.embeddings:
        write_embeddings(evaluation.folder / "embeddings.parquet", predictions, said)
    figures = write_evaluation(evaluation.folder, predictions.table, classes=classes, **said)
    console.say(summary(figures))
    if evaluation.examples:
        train, train_labels = evaluation.examples()
        chosen = choose(predictions.table, figures["confusions"])
        pictures = {"split": split, "index": predictions.index, "train": train, "train_labels": train_labels}
        write_gallery(evaluation.folder, chosen, predictions.table, **pictures)
    else:
        (evaluation.folder / GALLERY).unlink(missing_ok=True)  # of an earlier evaluation
    if judgement:
        console.say(neighbours_summary(write_judgement(evaluation.folder, judgement, said)))
    write_run_page(evaluation.workdir)
    return figures


def main() -> None:
    """Reads the flags and evaluates."""
    given = flags.FLAGS
    with hosts.joined(given.multihost, peer_seconds=given.peer_seconds), exit_codes():
        keep_compiled()
        with hosts.refused_by_all(), clear_errors():
            workdir = buckets.opened(given.workdir, setting="workdir", writes=jax.process_index() == 0)
            evaluation = _plan_of_flags(workdir.folder)
        console = Console()
        with workdir:
            evaluate(evaluation, console)
        place = buckets.url_of(evaluation.workdir) or evaluation.workdir
        console.say(f"Predictions and figures lie in {place}/eval/{given.split}, the page is {place}/{REPORT}")


def _plan_of_flags(workdir: Path) -> Evaluation:
    given = flags.FLAGS
    return plan(
        workdir,
        given.split,
        given.checkpoint,
        batch_size=given.batch_size,
        image_size=_numbers("image_size", given.image_size, int, "whole numbers of pixels"),
        crop=_numbers("crop", given.crop, float, "fractions"),
        flip=given.flip,
        data_dir=given.data_dir,
        embeddings=given.embeddings,
        neighbours=given.neighbours,
        gallery=given.gallery,
    )


def _numbers(flag: str, texts: list[str] | None, kind: type, what: str) -> tuple | None:
    """The numbers of a flag that holds a list; None where it was not given."""
    if not texts:
        return None
    try:
        return tuple(kind(text) for text in texts)
    except ValueError as error:
        raise ValueError(f"--{flag}={','.join(texts)}: give {what}, several separated by commas.") from error


def define_flags() -> None:
    """Defines this program's flags."""
    flags.DEFINE_string("workdir", None, "Folder of a run of p10k_jax.train, or gs://BUCKET/PATH.")
    flags.DEFINE_string("split", "validation", "Split to evaluate: validation, test, or TFDS's slice notation.")
    flags.DEFINE_string("checkpoint", "best", "best (by validation top-1), last, or a step.")
    flags.DEFINE_integer("batch_size", None, "Global batch size; default: the run's.")
    flags.DEFINE_list("image_size", None, "Side of what the model sees, pixels; default: the run's. Several: averaged.")
    flags.DEFINE_list(
        "crop",
        None,
        "Centred square, fraction of the shorter side; 0: the whole picture; default: the run's. Several: too.",
    )
    flags.DEFINE_boolean("flip", False, "Average over the mirror image of each view too.")
    flags.DEFINE_boolean("embeddings", False, "Write eval/<split>/embeddings.parquet too.")
    flags.DEFINE_boolean("neighbours", False, "Judge the embeddings too: kNN, prototypes, retrieval, fusion.")
    flags.DEFINE_boolean("gallery", True, "Keep small pictures of mistakes for report.html.")
    flags.DEFINE_string("data_dir", None, "Where the prepared data lies, if it has moved.")
    hosts.define_host_flags()


if __name__ == "__main__":
    run_program(main, define_flags, required=("workdir",))
