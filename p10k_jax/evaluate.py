"""Evaluates a run on a split: every image exactly once, predictions and figures into the workdir.

python -m p10k_jax.evaluate --workdir=W --split=test [--checkpoint=best|last|STEP]
"""

import functools
from pathlib import Path

import jax
from absl import flags

from p10k_jax import setup
from p10k_jax.config import clear_errors, read_workdir, run_program
from p10k_jax.data.batches import check_divides
from p10k_jax.data.splits import open_split
from p10k_jax.reporting.progress import Console
from p10k_jax.training.checkpoint import Checkpoints, abstract_state
from p10k_jax.training.mesh import batch_sharding, make_mesh, state_shardings
from p10k_jax.training.state import evaluation_weights, initial_weights
from tfds_builder.prepare import prepare


def evaluate(
    workdir: Path,
    split: str,
    checkpoint: str,
    console: Console,
    *,
    batch_size: int | None = None,
    data_dir: str | None = None,
) -> dict:
    """Writes `eval/<split>/{metrics.json,predictions.parquet}` and returns the figures.

    Args:
        workdir: Of a run.
        split: Read from the run's dataset.
        checkpoint: `best`, `last` or a step.
        console: For what a person sees.
        batch_size: Global; default: the run's.
        data_dir: Where the prepared data lies; default: where it was in training.

    Raises:
        ValueError: no run, no such split or checkpoint; nothing was written.
    """
    config = read_workdir(workdir)
    config.eval.batch_size = batch_size or config.eval.batch_size
    builder = prepare(
        config.data.name,
        config=config.data.config,
        data_dir=data_dir or config.data.data_dir,
        manual_dir=config.data.manual_dir,
    )
    data = open_split(builder, split)
    mesh = make_mesh(**config.mesh)
    model = setup.make_model(config, data)
    evaluator = setup.make_evaluator(config, model, data, mesh)
    check_divides(evaluator.batch_size, batch_sharding(mesh))

    checkpoints = Checkpoints(workdir / "checkpoints", metric="top1", read_only=True)
    step = checkpoints.resolve(checkpoint)
    shapes = jax.eval_shape(functools.partial(initial_weights, model, ema=config.ema_decay > 0), jax.random.key(0))
    shardings = state_shardings(mesh, shapes, config.sharding_rules)
    weights = checkpoints.restore(step, abstract_state(shapes, shardings))
    console.say(f"{data.dataset} {data.name}: {len(data):,} images; checkpoint of step {step:,}")

    table, report = evaluator(*evaluation_weights(weights))
    figures = setup.write_evaluation(workdir, split, table, step=step)
    console.say(str(report))
    return figures


def main() -> None:
    """Reads the flags, evaluates and prints the figures."""
    given, console = flags.FLAGS, Console()
    workdir = Path(given.workdir)
    with clear_errors():
        figures = evaluate(
            workdir, given.split, given.checkpoint, console, batch_size=given.batch_size, data_dir=given.data_dir
        )
    for key, value in figures.items():
        console.say(f"  {key:>14}  {value:.4f}" if isinstance(value, float) else f"  {key:>14}  {value:,}")
    console.say(f"Predictions and figures lie in {workdir / 'eval' / given.split}")


def define_flags() -> None:
    """Defines this program's flags."""
    flags.DEFINE_string("workdir", None, "Folder of a run of p10k_jax.train.")
    flags.DEFINE_string("split", "validation", "Split to evaluate: validation, test, or TFDS's slice notation.")
    flags.DEFINE_string("checkpoint", "best", "best (by validation top-1), last, or a step.")
    flags.DEFINE_integer("batch_size", None, "Global batch size; default: the run's.")
    flags.DEFINE_string("data_dir", None, "Where the prepared data lies, if it has moved.")


if __name__ == "__main__":
    run_program(main, define_flags, required=("workdir",))
