"""Evaluates a run on a split: every image exactly once, predictions and figures into the workdir.

python -m p10k_jax.evaluate --workdir=W --split=test [--checkpoint=best|last|STEP]
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict

from p10k_jax import setup
from p10k_jax.config import clear_errors, read_workdir, run_program
from p10k_jax.data.classes import FILE as CLASSES
from p10k_jax.data.classes import Classes, classes_of, write_classes
from p10k_jax.data.splits import open_split
from p10k_jax.evaluation.files import write_evaluation
from p10k_jax.evaluation.metrics import metrics
from p10k_jax.evaluation.summary import summary
from p10k_jax.reporting.progress import Console
from p10k_jax.training.checkpoint import Checkpoints, abstract_state
from p10k_jax.training.mesh import make_mesh, state_shardings
from p10k_jax.training.state import State, evaluation_weights, initial_weights


class Evaluation(NamedTuple):
    """An evaluation that was checked and is ready to run."""

    workdir: Path
    folder: Path
    evaluator: setup.Evaluator
    step: int
    settings: dict[str, float]
    load: Callable[[], State]
    classes: Callable[[], Classes]


def plan(
    workdir: Path,
    split: str,
    checkpoint: str,
    *,
    batch_size: int | None = None,
    image_size: int | None = None,
    crop: float | None = None,
    data_dir: str | None = None,
) -> Evaluation:
    """Checks everything that can be checked before the first batch; writes nothing.

    Args:
        workdir: Of a run.
        split: Of the run's dataset.
        checkpoint: `best`, `last` or a step.
        batch_size: Global; default: the run's.
        image_size: Side of what the model sees, pixels; default: the run's. Larger than in training is often better
            (Touvron et al., arXiv 1906.06423).
        crop: Centred square as a fraction of the shorter side, 0 for the whole picture squashed; default: the run's.
        data_dir: Where the prepared data lies; default: where it was in training. It must be the same data.

    Raises:
        ValueError: no run, no such split or checkpoint, other data, a batch that the mesh does not divide.
    """
    config = read_workdir(workdir)
    config.eval.batch_size = batch_size or config.eval.batch_size
    config.eval.image_size = image_size or config.eval.image_size
    config.eval.crop = config.eval.crop if crop is None else crop
    config.data.canvas_size = max(config.data.canvas_size, -(-config.eval.image_size * 8 // 7))
    builder = setup.open_data(config, data_dir=data_dir)
    data = open_split(builder, split)
    mesh = _mesh_here(config)
    model = setup.make_model(config)
    evaluator = setup.make_evaluator(config, model, data, mesh)
    checkpoints = Checkpoints(workdir / "checkpoints", metric="top1", read_only=True)
    step = checkpoints.resolve(checkpoint)
    shapes = jax.eval_shape(functools.partial(initial_weights, model, ema=config.ema_decay > 0), jax.random.key(0))
    shardings = state_shardings(mesh, shapes, config.sharding_rules)
    load = functools.partial(checkpoints.restore, step, abstract_state(shapes, shardings))
    settings = {"image_size": config.eval.image_size, "crop": config.eval.crop}
    return Evaluation(
        workdir=workdir,
        folder=workdir / "eval" / split,
        evaluator=evaluator,
        step=step,
        settings=settings,
        load=load,
        classes=functools.partial(classes_of, builder, open_split(builder, config.data.train_split)),
    )


def _mesh_here(config: ConfigDict) -> Mesh:
    """The run's mesh where it fits the devices at hand, else all of them on `data`: predictions are the same."""
    try:
        return make_mesh(**config.mesh)
    except ValueError:
        return make_mesh()


def evaluate(evaluation: Evaluation, console: Console) -> dict[str, Any]:
    """Writes `eval/<split>/{metrics.json,predictions.parquet}`, says the figures that count most and returns all.

    A workdir without `classes.csv`, of an earlier version, gets one. Only process 0 writes and has more than `metrics`.
    """
    split = evaluation.evaluator.split
    console.say(f"{split.dataset} {split.name}: {len(split):,} images; checkpoint of step {evaluation.step:,}")
    weights = evaluation_weights(evaluation.load())
    table, report = evaluation.evaluator(
        *weights, progress=lambda done, steps: console.live(f"batch {done:,} of {steps:,}")
    )
    console.say(str(report))
    if jax.process_index() != 0:
        return metrics(table)
    classes = evaluation.classes()
    if not (evaluation.workdir / CLASSES).exists():
        write_classes(evaluation.workdir, classes)
    figures = write_evaluation(evaluation.folder, table, classes=classes, step=evaluation.step, **evaluation.settings)
    console.say(summary(figures))
    return figures


def main() -> None:
    """Reads the flags and evaluates."""
    given, console = flags.FLAGS, Console()
    with clear_errors():
        workdir = setup.local_folder(given.workdir, setting="workdir")
        evaluation = plan(
            workdir,
            given.split,
            given.checkpoint,
            batch_size=given.batch_size,
            image_size=given.image_size,
            crop=given.crop,
            data_dir=given.data_dir,
        )
    evaluate(evaluation, console)
    console.say(f"Predictions and figures lie in {evaluation.folder}")


def define_flags() -> None:
    """Defines this program's flags."""
    flags.DEFINE_string("workdir", None, "Folder of a run of p10k_jax.train.")
    flags.DEFINE_string("split", "validation", "Split to evaluate: validation, test, or TFDS's slice notation.")
    flags.DEFINE_string("checkpoint", "best", "best (by validation top-1), last, or a step.")
    flags.DEFINE_integer("batch_size", None, "Global batch size; default: the run's.")
    flags.DEFINE_integer("image_size", None, "Side of what the model sees, pixels; default: the run's.")
    flags.DEFINE_float(
        "crop", None, "Centred square, fraction of the shorter side; 0: the whole picture; default: the run's."
    )
    flags.DEFINE_string("data_dir", None, "Where the prepared data lies, if it has moved.")


if __name__ == "__main__":
    run_program(main, define_flags, required=("workdir",))
