"""Where a run's figures, pictures and settings go beside `metrics.jsonl`: TensorBoard, Weights & Biases, MLflow.

A tracker can fail, hang or be slow without the run noticing: each works in a thread of its own (`aside.py`).
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from p10k_jax.reporting.trackers.aside import Aside


class Tracker(Protocol):
    """One place. A method may raise anything: the tracker is then switched off."""

    def settings(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Takes the run's config by dotted keys, and what `run.json` tells; once, before all else."""

    def figures(self, step: int, figures: Mapping[str, float | int]) -> None:
        """Takes one row of figures."""

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Takes one picture."""

    def close(self) -> None:
        """Sends what is not sent yet; nothing follows."""


# Module in this folder, whose `open_tracker(workdir, *, project, resumed_at, say)` makes the tracker; what it imports.
_KNOWN = {
    "tensorboard": ("tensorboard_files", "tensorboardX"),
    "wandb": ("wandb_run", "wandb"),
    "mlflow": ("mlflow_run", "mlflow"),
}


def check_trackers(names: Sequence[str]) -> None:
    """Raises ValueError for a tracker that is unknown, named twice or not installed."""
    if isinstance(names, str) or len(set(names)) < len(names):
        raise ValueError(f"log.trackers={names!r} must be a tuple of different names, as ('tensorboard', 'wandb').")
    for name in names:
        if name not in _KNOWN:
            raise ValueError(f"log.trackers: {name!r} is unknown; known: {', '.join(_KNOWN)}.")
        module = importlib.util.find_spec(_KNOWN[name][1])
        if module is None or module.origin is None:  # a folder of that name is no package
            raise ValueError(f"log.trackers: {name!r} is not installed; pip install p10k_jax[{name}]")


def open_trackers(
    names: Sequence[str], workdir: Path, *, project: str, resumed_at: int, say: Callable[[str], None]
) -> list[Tracker]:
    """Opens the trackers of a run; returns as soon as they are imported.

    Args:
        names: Checked by `check_trackers`.
        workdir: Of the run, whose name the run has there, too. Trackers write nothing outside of it, unless their own
            environment variables say so.
        project: W&B's project, MLflow's experiment.
        resumed_at: Step that the run goes on from.
        say: Shows a line to a person: where to look, or why a tracker was switched off. Called by the thread that
            calls the trackers.
    """

    opened = []
    for name in names:
        # Imported here and not in the tracker's thread: CPython 3.11 trips over two threads that compile at once, as
        # jaxtyping and tracing do meanwhile (gh-106905).
        try:
            module = importlib.import_module(f"{__name__}.{_KNOWN[name][0]}")
        except Exception as error:
            say(f"tracker {name} cannot be loaded and is switched off; metrics.jsonl goes on ({error})")
            continue
        settings = {"project": project, "resumed_at": resumed_at}
        make = functools.partial(module.open_tracker, workdir.resolve(), **settings)
        opened.append(Aside(name, lambda say, make=make: make(say=say), say))
    return opened
