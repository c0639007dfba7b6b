"""Averages the weights of several finished runs of one architecture into a new workdir.

    python -m p10k_jax.soup --workdirs=W1,W2,W3 --workdir=SOUP [--method=greedy|uniform]

Runs that started from the same public weights and differ in seed or recipe can make a better model than the best of
them, at the cost of one (Wortsman et al., arXiv 2203.05482). `greedy` takes a run in where that does not lower
the top-1 on the validation split; `uniform` takes all. The new workdir is evaluated, exported and started from like any
other.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from p10k_jax import buckets, setup
from p10k_jax.config import as_plain, check_empty, clear_errors, differences, run_program
from p10k_jax.data.classes import FILE as CLASSES
from p10k_jax.data.splits import open_split
from p10k_jax.evaluation.metrics import metrics
from p10k_jax.facts import FILE as FACTS
from p10k_jax.files import write_bytes, write_json
from p10k_jax.finished import FinishedRun, open_run
from p10k_jax.models.functional import Tree
from p10k_jax.reporting.progress import Console
from p10k_jax.training.averaging import greedy_soup, uniform_soup
from p10k_jax.training.checkpoint import Checkpoints
from p10k_jax.training.mesh import make_mesh, replicated

METHODS = ("greedy", "uniform")


def plan(workdirs: Sequence[Path], workdir: Path, method: str) -> list[FinishedRun]:
    """Opens the runs and checks that they can be averaged; writes nothing.

    Raises:
        ValueError: fewer than two runs, runs of other models or data, an unknown method, or a workdir in use.
    """
    if method not in METHODS:
        raise ValueError(f"--method={method!r} is unknown; known: {', '.join(METHODS)}.")
    if len(workdirs) < 2:
        raise ValueError("--workdirs: give at least two runs, separated by commas.")
    check_empty(workdir)
    runs = [open_run(folder) for folder in workdirs]
    if not runs[0].config.model.weights_sha256:
        raise ValueError(
            f"{runs[0].place} started from chance (no model.weights): the mean of runs that start apart is no model."
        )
    first, *others = ({part: _of(run, part) for part in _MUST_AGREE} for run in runs)
    for run, config in zip(runs[1:], others, strict=True):
        if changed := differences(first, config):
            raise ValueError(f"{run.place} differs from {runs[0].place} in {changed[0]}.")
    return runs


def _of(run: FinishedRun, part: str) -> dict[str, Any]:
    config = run.config[part].to_dict()
    told = {key: config.get(key) for key in _MUST_AGREE[part]}
    if part == "model":
        told["options"].pop("drop_path", None)
    if part == "head" and (config["name"] != "linear" or config["embedding_size"]):
        told["seed"] = run.config.seed  # drawn from it: such heads start apart
    return told


_MUST_AGREE = {
    "model": ("name", "num_classes", "num_groups", "options", "weights_sha256"),
    "head": ("name", "embedding_size", "bnneck", "subcentres", "scale"),
    "data": ("fingerprint", "image_size", "mean", "std", "pad"),
    "eval": ("image_size", "crop"),
}


def judge(run: FinishedRun, split: str, *, data_dir: str | None = None) -> Callable[[Tree], float]:
    """Weights to top-1 on the split, with the settings of that run; `data_dir` is where its data lies if it moved."""
    builder = setup.open_data(run.config, data_dir=data_dir)
    mesh = make_mesh()
    evaluator = setup.make_evaluator(run.config, run.model, open_split(builder, split), mesh, builder=builder)

    def top1(weights: Tree) -> float:
        placed = jax.device_put(weights, replicated(mesh))
        table, _ = evaluator(placed["params"], placed["batch_stats"])
        return metrics(table)["top1"]

    return top1


def main() -> None:
    """Averages and writes the new workdir."""
    given, console = flags.FLAGS, Console()
    with clear_errors():
        place = buckets.opened(given.workdir, setting="workdir", writes=True)
        folders = [buckets.opened(path, setting="workdirs", writes=False).folder for path in given.workdirs]
        runs = plan(folders, place.folder, given.method)
        top1 = judge(runs[0], given.split, data_dir=given.data_dir)
    alone = []
    for run in runs:
        alone.append(top1(run.weights()))
        console.say(f"  {alone[-1]:.4f}  {run.place}, step {run.step:,}")
    if given.method == "greedy":
        kept, figure = greedy_soup(lambda number: runs[number].weights(), alone, top1)
        soup = uniform_soup([runs[number].weights() for number in kept])
    else:
        kept = list(range(len(runs)))
        soup = uniform_soup([run.weights() for run in runs])
        figure = top1(soup)
    with place:
        write_soup(place.folder, [runs[number] for number in kept], soup, figure, given.method)
    console.say(f"  {figure:.4f}  the soup of {len(kept)} of {len(runs)} runs: {given.split} top-1")
    console.say(f"Evaluate it: python -m p10k_jax.evaluate --workdir={given.workdir} --split=test")


def write_soup(workdir: Path, runs: Sequence[FinishedRun], soup: Tree, top1: float, method: str) -> None:
    """The workdir: the first run's config with `soup` added, and one checkpoint, of the latest step."""
    config, step = runs[0].config.copy_and_resolve_references(), max(run.step for run in runs)
    with config.unlocked():
        config.ema_decay = 0.0
        config.model.padded_classes = config.model.num_classes
        if "given" in config:  # a soup of soups has none
            del config.given  # nobody trains on from here
        config.soup = {"method": method, "of": [f"{run.place}, step {run.step}" for run in runs]}
    write_json(workdir / "config.json", as_plain(config))
    for file in (FACTS, CLASSES):  # a soup is one model of the same cost and classes
        if (runs[0].workdir / file).exists():
            write_bytes(workdir / file, (runs[0].workdir / file).read_bytes())
    checkpoints = Checkpoints(workdir / "checkpoints", metric="top1")
    checkpoints.save(jax.tree.map(jax.numpy.asarray, soup) | {"ema": {}}, step=step, metrics={"top1": top1})
    checkpoints.close()


def define_flags() -> None:
    """Defines this program's flags."""
    flags.DEFINE_list("workdirs", None, "Folders of finished runs, or gs://BUCKET/PATH, separated by commas.")
    flags.DEFINE_string("workdir", None, "Folder to write, or gs://BUCKET/PATH; must be empty.")
    flags.DEFINE_string("method", "greedy", "greedy (what does not lower the top-1 on the split) or uniform (all).")
    flags.DEFINE_string("split", "validation", "Split to judge by.")
    flags.DEFINE_string("data_dir", None, "Where the prepared data lies, if it has moved.")


if __name__ == "__main__":
    run_program(main, define_flags, required=("workdirs", "workdir"))
