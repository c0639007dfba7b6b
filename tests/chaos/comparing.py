"""Whether a disturbed run ended as the undisturbed one did."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from p10k_jax.reporting.writers import read_metrics
from p10k_jax.train import plan
from p10k_jax.training.checkpoint import Checkpoints
from tests.chaos.rounds import HOME, STEPS, Round
from tests.runs import tiny_config

# Other hardware takes sums in another order.
TOLERANCE = 1e-5


class Comparison:
    """`expected` are workdirs of undisturbed runs, by the name of their hardware."""

    def __init__(self, data: Path, expected: Mapping[str, Path]):
        self._shapes = plan(tiny_config(data), expected[HOME]).program.state
        self._figures = {name: figures(workdir) for name, workdir in expected.items()}
        self._losses = {name: losses(workdir) for name, workdir in expected.items()}
        self._states = {name: self._final(workdir) for name, workdir in expected.items()}

    def _final(self, workdir: Path) -> dict:
        checkpoints = Checkpoints(workdir / "checkpoints", metric="top1", read_only=True)
        state = checkpoints.restore_on_host(STEPS, self._shapes)
        checkpoints.close()
        return state

    def difference(self, workdir: Path, played: Round) -> tuple[str, float]:
        """What differs, '' for nothing; and how far the final loss is from the undisturbed one, relatively.

        On the same hardware all must be equal to the bit: the final state, the loss of every step and the accuracy of
        every evaluation.
        """
        found, name = losses(workdir), played.hardware[0] if played.same else HOME
        distance = abs(found[-1] - self._losses[name][-1]) / abs(self._losses[name][-1])
        if not played.same:
            return (f"final loss off by {distance:.1e}" if distance > TOLERANCE else ""), distance
        if figures(workdir) != self._figures[name]:
            return "losses or accuracies", distance
        equal = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), self._final(workdir), self._states[name])
        return ("" if all(jax.tree.leaves(equal)) else "final state"), distance


def losses(workdir: Path) -> list[float]:
    """Of every step."""
    return [row["train/loss"] for row in read_metrics(workdir / "metrics.jsonl") if "train/loss" in row]


def figures(workdir: Path) -> list[tuple[int, float]]:
    """Step and loss or validation top-1 of all rows, as often as they stand there."""
    rows = read_metrics(workdir / "metrics.jsonl")
    return sorted((row["step"], row[key]) for row in rows for key in ("train/loss", "validation/top1") if key in row)
