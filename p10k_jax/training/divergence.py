"""When a run has diverged."""

import math
from collections.abc import Mapping

# A loss above both this and so many times the first of the process explodes. A softmax loss starts near the logarithm
# of the number of classes, a sigmoid one near 0.7 times that number.
_LOSS, _TIMES_THE_FIRST = 1000.0, 10.0

_SKIPPED_IN_A_ROW = 20


class Diverged(FloatingPointError):
    """A loss, a gradient or a state that nothing can be learned from; `step` says where."""

    def __init__(self, step: int, reason: str, figures: Mapping[str, float]):
        super().__init__(f"diverged at step {step:,}: {reason}")
        self.step, self.reason, self.figures = step, reason, dict(figures)


class DivergenceWatch:
    """Sees the metrics of every step of a process.

    Args:
        skips: Steps that are not finite were left out, and end the run only if 20 come in a row.
    """

    def __init__(self, *, skips: bool):
        self._skips, self._skipped = skips, 0
        self._first: float | None = None

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes `loss` and `gradient_norm` of the step. Raises Diverged."""
        loss, norm = metrics["loss"], metrics["gradient_norm"]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._skipped += 1
            if not self._skips:
                raise Diverged(step, f"the loss is {loss:.4g}, the norm of the gradient {norm:.4g}", metrics)
            if self._skipped >= _SKIPPED_IN_A_ROW:
                raise Diverged(step, f"{self._skipped} steps in a row were not finite and left out", metrics)
            return
        self._skipped = 0
        self._first = loss if self._first is None else self._first
        limit = max(_LOSS, _TIMES_THE_FIRST * self._first)
        if loss > limit:
            raise Diverged(step, f"the loss is {loss:.4g}, above {limit:.4g}", metrics)
