"""Sharded, asynchronous checkpoints with Orbax; the only file that knows its API.

A checkpoint is a folder `<step>/` that appears by one rename when it is complete: a killed save leaves a temporary
folder that is never mistaken for one and is removed at the next start. The latest is kept to resume from, and the
best by a validation metric to report from.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from p10k_jax.training.state import State


class Best(NamedTuple):
    """The best checkpoint so far; ordered by value, of equals the later is the better."""

    value: float
    step: int


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Made if need be, unless `read_only`.
        metric: Key in the metrics by which the best is chosen; larger is better, of equals the latest wins.
        read_only: Makes no folder and removes nothing. (Orbax's own mode of that name warns twice at each start.)
    """

    def __init__(self, folder: Path, *, metric: str, read_only: bool = False):

        def value(metrics: Mapping[str, float | None]) -> float:
            return -math.inf if metrics[metric] is None else metrics[metric]

        best = checkpoint_managers.BestN(get_metric_fn=value, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=value,
            preservation_policy=checkpoint_managers.AnyPreservationPolicy([checkpoint_managers.LatestN(1), best]),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
        )
        self._folder, self._metric = Path(folder).absolute(), metric
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, *, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """Starts writing; returns when the arrays are copied to the host. Waits for a save that still goes on.

        A checkpoint without metrics serves to resume and is never the best.
        """
        # Orbax warns of every checkpoint without metrics; None in its place says the same in silence.
        metrics = {self._metric: None} if metrics is None else dict(metrics)
        self._manager.save(step, args=ocp.args.PyTreeSave(state), metrics=metrics, force=True)

    def saving(self) -> bool:
        """Whether a save still goes on in the background."""
        return self._manager.is_saving_in_progress()

    def best(self) -> Best | None:
        """The best checkpoint that has metrics."""
        values = {step: self._manager.metrics(step)[self._metric] for step in self.steps()}
        return max((Best(value, step) for step, value in values.items() if value is not None), default=None)

    def resolve(self, which: str) -> int:
        """`'last'`, `'best'` or a step as text, to a step. Raises ValueError naming what there is."""
        steps = self.steps()
        if not steps:
            raise ValueError(f"No complete checkpoint in {self._folder}.")
        if which == "last":
            return steps[-1]
        if which == "best":
            best = self.best()
            if best is None:
                raise ValueError(f"No checkpoint in {self._folder} was evaluated; there are steps {steps} ('last').")
            return best.step
        if not which.isdigit() or int(which) not in steps:
            raise ValueError(f"checkpoint={which!r}: give 'last', 'best' or one of the steps {steps}.")
        return int(which)

    def restore(self, step: int, abstract: State) -> State:
        """The state at `step`, or the part of it that `abstract` names, placed as `abstract` says.

        Args:
            step: Of a complete checkpoint.
            abstract: A tree of `jax.ShapeDtypeStruct` with shardings, which may be of another mesh than was saved.
        """
        restore_args = ocp.checkpoint_utils.construct_restore_args(abstract)
        args = ocp.args.PyTreeRestore(abstract, restore_args=restore_args, partial_restore=True)
        return self._manager.restore(step, args=args)

    def restore_on_host(self, step: int, abstract: State) -> State:
        """As `restore`, into NumPy arrays: no device holds anything. `abstract` needs no shardings."""
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), abstract)
        args = ocp.args.PyTreeRestore(abstract, restore_args=restore_args, partial_restore=True)
        return self._manager.restore(step, args=args)

    def close(self) -> None:
        """Waits for the save that goes on; raises what went wrong in the background."""
        self._manager.wait_until_finished()
        self._manager.check_for_errors()
        self._manager.close()


def has_checkpoint(folder: Path) -> bool:
    """Whether the folder holds a complete checkpoint; makes and opens nothing."""
    return folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir())


def abstract_state(shapes: State, shardings) -> State:
    """Shapes and shardings as one tree, for `restore`."""
    return jax.tree.map(
        lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes, shardings
    )
