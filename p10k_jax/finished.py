"""Finished runs: what a workdir holds, read back on the host."""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from p10k_jax import buckets, setup
from p10k_jax.config import read_workdir
from p10k_jax.models import Model
from p10k_jax.models.functional import Tree
from p10k_jax.models.padding import cut
from p10k_jax.training.checkpoint import Checkpoints
from p10k_jax.training.state import evaluation_weights, initial_weights


class FinishedRun(NamedTuple):
    """A run with the checkpoint that was chosen.

    Attributes:
        workdir: Of the run.
        config: As it was resolved.
        step: Of the checkpoint.
        model: As it was trained, without padded classes.
    """

    workdir: Path
    config: ConfigDict
    step: int
    model: Model

    @property
    def place(self) -> str:
        """The workdir as a user gives it: the folder, or the one in a bucket that it is the copy of."""
        return buckets.url_of(self.workdir) or str(self.workdir)

    def weights(self) -> Tree:
        """`{"params": ..., "batch_stats": ...}` of the model that evaluation uses, float32 NumPy."""
        ema = self.config.ema_decay > 0
        trained = setup.make_model(self.config)
        shapes = jax.eval_shape(functools.partial(initial_weights, trained, ema=ema), jax.random.key(0))
        if ema:  # the others are not read at all
            shapes = {"ema": shapes["ema"]}
        checkpoints = Checkpoints(self.workdir / "checkpoints", metric="top1", read_only=True)
        restored = checkpoints.restore_on_host(self.step, shapes)
        checkpoints.close()
        params, batch_stats = evaluation_weights(restored if ema else restored | {"ema": {}})
        like = dict(zip(("params", "batch_stats"), jax.eval_shape(self.model.init, jax.random.key(0)), strict=True))
        return jax.tree.map(np.asarray, cut({"params": params, "batch_stats": batch_stats}, like))


def open_run(workdir: Path, checkpoint: str = "") -> FinishedRun:
    """Opens a run; reads no weights yet.

    Args:
        workdir: Of `p10k_jax.train`.
        checkpoint: `best`, `last` or a step; empty: the best, or the last where none was evaluated.

    Raises:
        ValueError: no run, no such checkpoint, or a config that describes no model.
    """
    config = read_workdir(workdir)
    checkpoints = Checkpoints(workdir / "checkpoints", metric="top1", read_only=True)
    step = checkpoints.resolve(checkpoint or ("best" if checkpoints.best() else "last"))
    checkpoints.close()
    try:
        model = setup.make_model(config, padded=False)
    except ValueError:
        raise
    except Exception as error:  # a record that is not ours may be wrong in any setting, and each fails in its own way
        raise ValueError(
            f"{workdir / 'config.json'} describes no model ({type(error).__name__}: {error!s:.500}); give a workdir of "
            "p10k_jax.train."
        ) from error
    return FinishedRun(workdir, config, step, model)
