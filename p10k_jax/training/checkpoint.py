"""Sharded, asynchronous checkpoints with Orbax; the only file that knows its API.

A checkpoint is a folder `<step>/` that appears by one rename when it is complete: a killed save leaves a temporary
folder that is never mistaken for one and is removed at the next start. In a bucket, which renames nothing at once, a
file `commit_success.txt` comes last instead. The latest two are kept to resume from, the
second for the case that the last cannot be read, and the best by a validation metric to report from.

With a checkpoint lie the checksums of its arrays. What is read is compared with them.
"""

import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from p10k_jax import buckets
from p10k_jax.training.checksums import checksums, damaged
from p10k_jax.training.state import State

_CHECKSUMS = "checksums"
_LATEST = 2


# What TensorStore's messages begin with where the storage does not answer or lets nobody in.
_OUTAGES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED", "PERMISSION_DENIED")


class UnreadableCheckpoint(ValueError):
    """A checkpoint that is not as it was written, or cannot be read at all."""


class Best(NamedTuple):
    """The best checkpoint so far; ordered by value, of equals the later is the better."""

    value: float
    step: int


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Made if need be, unless `read_only`; see `located`.
        metric: Key in the metrics by which the best is chosen; larger is better, of equals the latest wins.
        read_only: Makes no folder and removes nothing. (Orbax's own mode of that name warns twice at each start.)
        time_limit: Seconds that the processes of a run wait for each other in a save.

    Raises:
        UnreadableCheckpoint: the metrics of one are no metrics.
    """

    def __init__(self, folder: Path, *, metric: str, read_only: bool = False, time_limit: float = 600.0):

        def value(metrics: Mapping[str, float | None]) -> float:
            return -math.inf if metrics[metric] is None else metrics[metric]

        best = checkpoint_managers.BestN(get_metric_fn=value, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=value,
            preservation_policy=checkpoint_managers.AnyPreservationPolicy([checkpoint_managers.LatestN(_LATEST), best]),
            async_options=ocp.AsyncOptions(timeout_secs=max(1, round(time_limit))),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
        )
        self._folder, self._metric = located(folder), metric
        for step in _steps(self._folder):  # Orbax reads them all at once
            if not has_metrics_in_order(self._folder, step, metric):
                raise UnreadableCheckpoint(
                    f"the figures of the checkpoint of step {step:,} in {folder} cannot be read; move {step}/ away."
                )
        # Told what is in a checkpoint, Orbax does not warn when its metadata alone are read.
        self._manager = ocp.CheckpointManager(
            self._folder, options=options, item_handlers=ocp.PyTreeCheckpointHandler()
        )

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, *, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """Starts writing; returns when the arrays are copied to the host. Waits for a save that still goes on.

        A checkpoint without metrics serves to resume and is never the best. One of the same step is replaced.

        Raises:
            FloatingPointError: the state holds a number that is not finite; nothing is written.
            OSError, RuntimeError, ValueError: it cannot be written, or the one before could not be.
        """
        sums, not_finite = checksums(state)
        if not_finite:
            raise FloatingPointError(f"the state after step {step:,} is not finite in {', '.join(not_finite[:3])}")
        # Orbax warns of every checkpoint without metrics; None in its place says the same in silence.
        metrics = {self._metric: None} if metrics is None else dict(metrics)
        self.wait()
        if step in self._manager.all_steps():
            self._manager.delete(step)
        args = ocp.args.PyTreeSave(state)
        self._manager.save(step, args=args, metrics=metrics, force=True, custom_metadata={_CHECKSUMS: sums})

    def saving(self) -> bool:
        """Whether a save still goes on in the background."""
        return self._manager.is_saving_in_progress()

    def best(self) -> Best | None:
        """The best checkpoint that has metrics."""
        values = {step: self._value(step) for step in self.steps()}
        return max((Best(value, step) for step, value in values.items() if value is not None), default=None)

    def evaluated(self, step: int) -> bool:
        """Whether the checkpoint has metrics."""
        return self._value(step) is not None

    def _value(self, step: int) -> float | None:
        return (self._manager.metrics(step) or {}).get(self._metric)

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

        Raises:
            UnreadableCheckpoint: it is damaged.
            ConnectionError: the storage cannot be reached.
        """
        return self._read(step, abstract, ocp.checkpoint_utils.construct_restore_args(abstract))

    def restore_on_host(self, step: int, abstract: State) -> State:
        """As `restore`, into NumPy arrays: no device holds anything. `abstract` needs no shardings."""
        return self._read(step, abstract, jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), abstract))

    def _read(self, step: int, abstract: State, restore_args) -> State:
        args = ocp.args.PyTreeRestore(abstract, restore_args=restore_args, partial_restore=True)
        where = f"the checkpoint of step {step:,} in {self._folder}"
        try:
            sums = (self._manager.metadata(step).custom_metadata or {}).get(_CHECKSUMS, {})
            state = self._manager.restore(step, args=args)
        except Exception as error:  # what a damaged file makes Orbax and TensorStore raise is not told
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            if _is_outage(error, first):
                raise ConnectionError(f"{where} cannot be reached: {first[:300]}") from error
            raise UnreadableCheckpoint(f"{where} cannot be read: {first[:300]}") from error
        if wrong := damaged(state, sums):
            raise UnreadableCheckpoint(f"{where} is damaged: {', '.join(wrong[:3])} is not what was written")
        return state

    def wait(self) -> None:
        """Waits for the save that goes on; raises what went wrong in the background."""
        self._manager.wait_until_finished()
        self._manager.check_for_errors()

    def close(self) -> None:
        """Waits as `wait` does, and ends."""
        self.wait()
        self._manager.close()


def has_checkpoint(folder: Path) -> bool:
    """Whether the folder holds a complete checkpoint; makes and opens nothing."""
    return bool(_steps(located(folder)))


def located(folder: Path) -> epath.Path:
    """Where checkpoints lie that belong to `folder`: there, or in the bucket that its workdir is the copy of."""
    if buckets.is_bucket(str(folder)):
        return folder
    if url := buckets.url_of(folder.parent):
        buckets.limit_waiting()
        return epath.Path(url) / folder.name
    return epath.Path(folder).absolute()


def restore_latest(folder: Path, abstract: State, *, metric: str, say: Callable[[str], None]) -> tuple[State, int]:
    """The state of the last checkpoint that can be read, and its step; ({}, 0) where there is none at all.

    One that cannot be read is set aside, and said so. The same on every process.

    Raises:
        UnreadableCheckpoint: none can be read.
        ConnectionError: the storage cannot be reached; nothing is set aside.
    """
    folder = located(folder)
    while steps := sorted(_steps(folder)):
        last, state, complaint = steps[-1], {}, ""
        try:
            if not has_metrics_in_order(folder, last, metric):
                raise UnreadableCheckpoint(f"the figures of the checkpoint of step {last:,} in {folder} cannot be read")
            checkpoints = Checkpoints(folder, metric=metric, read_only=True)
            state = checkpoints.restore(last, abstract)
            checkpoints.close()
        except UnreadableCheckpoint as error:
            complaint = str(error)
        if _everywhere(not complaint):
            return state, last
        complaint = complaint or f"another process cannot read its part of the checkpoint of step {last:,} in {folder}"
        if len(steps) == 1:
            raise UnreadableCheckpoint(
                f"{complaint}. There is no other; remove {folder} to train from the start, or bring back a copy."
            )
        place = _set_aside(folder, last)
        say(f"{complaint}\nIt now lies in {place}; the run goes on from step {steps[-2]:,}.")
    return {}, 0


def has_metrics_in_order(folder: epath.Path, step: int, metric: str) -> bool:
    """Whether what was written beside a checkpoint is a number or null under the name of the metric."""
    try:
        metrics = json.loads((folder / str(step) / "metrics" / "metrics").read_text())
        return metrics[metric] is None or math.isfinite(metrics[metric])
    except FileNotFoundError:  # of an earlier version, or another program's
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_outage(error: Exception, message: str) -> bool:
    """Whether it tells of a storage that cannot be reached, which passes, and not of what lies there."""
    of_network = type(error).__module__.partition(".")[0] in ("aiohttp", "gcsfs", "google", "requests")
    return of_network or isinstance(error, TimeoutError | ConnectionError) or message.startswith(_OUTAGES)


def _steps(folder: epath.Path) -> list[int]:
    return [int(entry.name) for entry in folder.iterdir() if _is_complete(entry)] if folder.is_dir() else []


def _is_complete(entry: epath.Path) -> bool:
    in_bucket = buckets.is_bucket(str(entry))
    return entry.name.isdigit() and (not in_bucket or (entry / "commit_success.txt").exists())


def _everywhere(good: bool) -> bool:
    """Whether it holds on all processes."""
    return good if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.bool_(good)).all())


def _set_aside(folder: epath.Path, step: int) -> epath.Path:
    """Moves a checkpoint to a name that nothing takes for one."""
    place = next(
        place for n in itertools.count() if not (place := folder / f"unreadable-{step}{f'-{n}' if n else ''}").exists()
    )
    _everywhere(True)  # all have chosen the name
    if jax.process_index() == 0:
        (folder / str(step)).rename(place)
    _everywhere(True)
    return place


def abstract_state(shapes: State, shardings) -> State:
    """Shapes and shardings as one tree, for `restore`."""
    return jax.tree.map(
        lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes, shardings
    )
