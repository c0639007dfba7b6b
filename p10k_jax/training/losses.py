"""Losses by name: logits and labels to one loss an example."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Loss = Callable[[Float[Array, "b c"], Int[Array, " b"]], Float[Array, " b"]]


def softmax_cross_entropy(
    logits: Float[Array, "b c"], labels: Int[Array, " b"], *, label_smoothing: float = 0.0
) -> Float[Array, " b"]:
    """Cross-entropy against the label, smoothed towards the uniform distribution (Szegedy et al., arXiv 1512.00567).

    Args:
        logits: float32.
        labels: In 0..c-1.
        label_smoothing: Weight of the uniform distribution, in [0, 1).
    """
    log_probabilities = jax.nn.log_softmax(logits)
    of_label = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
    return -(1 - label_smoothing) * of_label - label_smoothing * log_probabilities.mean(axis=1)


LOSSES = {"softmax": softmax_cross_entropy}


def make_loss(name: str, *, label_smoothing: float = 0.0) -> Loss:
    """The loss of that name. Raises ValueError for an unknown name or a smoothing outside [0, 1)."""
    if name not in LOSSES:
        raise ValueError(f"Unknown loss {name!r}. Known: {', '.join(LOSSES)}.")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing} is outside [0, 1).")
    return lambda logits, labels: LOSSES[name](logits, labels, label_smoothing=label_smoothing)
