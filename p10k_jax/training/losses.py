"""Losses by name: logits and labels to one loss an example."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
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


def make_loss(
    name: str,
    *,
    label_smoothing: float = 0.0,
    logit_adjustment: float = 0.0,
    class_counts: Int[np.ndarray, " c"] | None = None,
) -> Loss:
    """The loss of that name.

    Logit adjustment adds `logit_adjustment * log(frequency)` to the logits while training, and to nothing afterwards:
    the model then learns what tells classes apart and leaves their frequencies to the loss. At 1 it is the loss whose
    minimum is best for the mean accuracy over classes (Menon et al., arXiv 2007.07314, eq. 10; as "balanced softmax"
    Ren et al., arXiv 2007.10740), which top-1 on a test split with as many images of every class is.

    Args:
        name: Of `LOSSES`.
        label_smoothing: In [0, 1).
        logit_adjustment: At least 0; 0 is none.
        class_counts: Training images of every class; needed for an adjustment. A class without any counts as one.

    Raises:
        ValueError: an unknown name, or a value outside its range.
    """
    if name not in LOSSES:
        raise ValueError(f"Unknown loss {name!r}. Known: {', '.join(LOSSES)}.")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing} is outside [0, 1).")
    if logit_adjustment < 0:
        raise ValueError(f"logit_adjustment={logit_adjustment} is negative.")
    loss = functools.partial(LOSSES[name], label_smoothing=label_smoothing)
    if not logit_adjustment:
        return loss
    if class_counts is None:
        raise ValueError(f"logit_adjustment={logit_adjustment} needs class_counts.")
    frequencies = np.maximum(class_counts, 1) / np.maximum(class_counts, 1).sum()
    adjustment = (logit_adjustment * np.log(frequencies)).astype(np.float32)
    return lambda logits, labels: loss(logits + adjustment, labels)
