"""Runs of an ablation as training and evaluation leave them, without either."""

import json

from p10k_jax.ablation.runs import Run
from p10k_jax.config import as_plain, write_workdir
from p10k_jax.evaluation.files import write_evaluation
from p10k_jax.facts import write_facts
from tests.tables import table

STEP, IMAGE_SIZE, CROP = 4, 32, 0.0


def finish(run: Run, *, images: int = 40, right: float = 0.5) -> None:
    """Writes what a finished run has in its workdir."""
    given = as_plain(run.config)
    resolved = given | {"eval": given["eval"] | {"image_size": IMAGE_SIZE, "crop": CROP}}
    write_workdir(run.workdir, resolved, given)
    write_facts(run.workdir, {"total_steps": STEP})
    (run.workdir / "checkpoints" / str(STEP)).mkdir(parents=True)
    row = {"step": STEP, "seconds": 9.0, f"{run.config.eval.split}/top1": 0.5}
    (run.workdir / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    evaluate(run, images=images, right=right)


def evaluate(run: Run, *, images: int = 40, right: float = 0.5, **settings) -> None:
    """Writes what an evaluation on the test split does; `settings` are those that are not the run's own."""
    hits = round(right * images)
    rows = table([0] * images, [[0, 1]] * hits + [[1, 0]] * (images - hits), [""] * images)
    said = {"step": STEP, "image_size": IMAGE_SIZE, "crop": CROP} | settings
    write_evaluation(run.workdir / "eval" / "test", rows, classes=None, **said)
