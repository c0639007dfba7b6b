"""The runs of an ablation and what of them lies on disk; opens no device."""

import contextlib
import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from p10k_jax.ablation.variants import arguments_of
from p10k_jax.config import read_workdir, resume_config
from p10k_jax.evaluation.files import read_said
from p10k_jax.facts import read_facts
from p10k_jax.files import read_object, write_text
from p10k_jax.reporting.writers import read_metrics
from p10k_jax.training.checkpoint import Best

try:
    import fcntl
except ImportError:  # not a POSIX system: runs are not kept apart
    fcntl = None

LOGS = "logs"


class Run(NamedTuple):
    """One training run and its evaluation.

    Attributes:
        variant, seed: What it is.
        workdir: `W/<variant>/seed<k>`.
        logs: `W/logs`.
        config: As given.
        arguments: That `p10k_jax.train` makes the config of.
    """

    variant: str
    seed: int
    workdir: Path
    logs: Path
    config: ConfigDict
    arguments: list[str]

    @property
    def name(self) -> str:
        """`<variant>-seed<k>`."""
        return f"{self.variant}-seed{self.seed}"

    @property
    def log(self) -> Path:
        """What its processes said."""
        return self.logs / f"{self.name}.log"


class Judged(NamedTuple):
    """How all runs are evaluated: `split`, and `checkpoint` (best, last or a step)."""

    split: str
    checkpoint: str


def make_runs(
    workdir: Path,
    configs: Mapping[str, ConfigDict],
    seeds: Iterable[int],
    *,
    file: str,
    arg: str | None,
    overrides: Sequence[str],
) -> list[Run]:
    """All runs, seed by seed, so that every variant has one run before any has two.

    Args:
        workdir: Of the ablation.
        configs: By variant.
        seeds: Of each variant.
        file, arg: `--config=FILE:ARG`.
        overrides: `--config.a.b=value` of the command line.
    """
    runs = []
    for seed in seeds:
        for variant, config in configs.items():
            own = copy.deepcopy(config)
            with own.unlocked():
                own.seed = seed
            arguments = [*arguments_of(file, arg, variant, overrides), f"--config.seed={seed}"]
            folder = workdir / variant / f"seed{seed}"
            runs.append(Run(variant, seed, folder, workdir / LOGS, own.lock(), arguments))
    return runs


def seeds_on_disk(workdir: Path, variants: Iterable[str]) -> dict[str, set[int]]:
    """The seeds of each variant that have been started."""
    return {
        name: {
            int(found.parent.name.removeprefix("seed"))
            for found in (workdir / name).glob("seed*/config.json")
            if found.parent.name.removeprefix("seed").isdecimal()
        }
        for name in variants
    }


def parse_shard(text: str) -> tuple[int, int]:
    """`'2/3'`, the second of three machines, to (2, 3). Raises ValueError for what is none."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"--shard={text}: give i/n with i from 1 to n, such as 1/2 and 2/2 for two machines.")
    return int(number), int(count)


def of_shard(runs: Sequence[Run], shard: tuple[int, int]) -> list[Run]:
    """Every n-th run, from the i-th."""
    number, count = shard
    return list(runs[number - 1 :: count])


def is_trained(run: Run) -> bool:
    """Whether the run has come to its end."""
    steps = read_facts(run.workdir).get("total_steps")
    return steps is not None and (run.workdir / "checkpoints" / str(steps)).is_dir()


def figures_of(run: Run, judged: Judged) -> dict[str, Any] | None:
    """Its `metrics.json`, if it and the predictions are of what `judged` says, with the run's own single view."""
    folder = run.workdir / "eval" / judged.split
    if not (folder / "metrics.json").exists() or not (folder / "predictions.parquet").exists():
        return None
    figures = read_object(folder / "metrics.json", "take it away: it is made anew")
    expected = read_workdir(run.workdir).eval
    said = {"step": _step(run, judged.checkpoint), "image_size": expected.image_size, "crop": expected.crop}
    if figures.get("flip") or any(figures.get(key) != value for key, value in said.items()):
        return None
    # Two files: an evaluation that was killed between them leaves the predictions of one and the figures of another.
    return figures if read_said(folder / "predictions.parquet") == {key: str(said[key]) for key in said} else None


def _step(run: Run, checkpoint: str) -> int | None:
    """The step that `best` or `last` of a finished run stands for; as `Checkpoints.resolve` has it."""
    if checkpoint == "last":
        return read_facts(run.workdir).get("total_steps")
    if checkpoint != "best":
        return int(checkpoint)
    key = f"{run.config.eval.split}/top1"
    rows = read_metrics(run.workdir / "metrics.jsonl")
    best = max((Best(row[key], row["step"]) for row in rows if key in row), default=None)
    return best and best.step


def is_finished(run: Run, judged: Judged) -> bool:
    """Whether nothing is left to do."""
    return (run.workdir / "config.json").exists() and is_trained(run) and figures_of(run, judged) is not None


def conflict(run: Run) -> str:
    """Why its folder cannot be gone on with, in the words of `p10k_jax.train`; empty if it can."""
    try:
        resume_config(run.config, run.workdir)
    except ValueError as error:
        return str(error)
    return ""


def what_is_left(run: Run, judged: Judged) -> str:
    """`nothing`, `evaluate`, `train`, or `go on with training`."""
    if is_finished(run, judged):
        return "nothing"
    if is_trained(run):
        return "evaluate"
    return "go on with training" if (run.workdir / "checkpoints").exists() else "train"


# -- Failures: kept beside the logs, so that every machine's table knows of them


def _failure(run: Run) -> Path:
    return run.logs / f"{run.name}.failed"


def read_failure(run: Run) -> str:
    """Why the run failed when it was last tried; empty if it did not."""
    path = _failure(run)
    return path.read_text() if path.exists() else ""


def write_failure(run: Run, message: str) -> None:
    """Keeps why the run failed, or, empty, that it did not."""
    if message:
        write_text(_failure(run), message)
    else:
        _failure(run).unlink(missing_ok=True)


@contextlib.contextmanager
def held(run: Run) -> Iterator[int | None]:
    """Holds the right to work on a run: a descriptor that children inherit, or None where another process has it.

    The lock lasts as long as any process has the descriptor: a child that outlives its killed parent keeps it.
    """
    run.logs.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run.logs / f"{run.name}.lock", os.O_RDWR | os.O_CREAT)
    try:
        yield descriptor if _lock(descriptor) else None
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """False where another process has it. A file system without locks keeps nobody apart."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
