"""Losses by name: logits and labels to one loss an example.

A mixed example (mixup, CutMix) has two labels, and its loss is the weighted mean of the two losses: for losses that are
linear in the target, the softmax's and the sigmoid's, that is the loss of the mixed target; a margin or a focus stays
with the label that it belongs to.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from p10k_jax.models.heads import Outputs

# The losses take classes by comparing and summing, never by an index, so that no logit leaves its device where the
# classes are split over devices. The columns beyond `num_classes`, of a padded classifier, are minus infinity.
Loss = Callable[[Float[Array, "b c"], Int[Array, " b"]], Float[Array, " b"]]
Objective = Callable[[Outputs, Int[Array, " b"], Int[Array, " b"]], Float[Array, " b"]]
_Transform = Callable[[Float[Array, "b c"], Int[Array, " b"]], Float[Array, "b c"]]


def softmax_cross_entropy(
    logits: Float[Array, "b c"],
    labels: Int[Array, " b"],
    *,
    label_smoothing: float = 0.0,
    num_classes: int | None = None,
) -> Float[Array, " b"]:
    """Cross-entropy against the label, smoothed towards the uniform distribution (Szegedy et al., arXiv 1512.00567).

    Args:
        logits: float32.
        labels: In 0..num_classes-1.
        label_smoothing: Weight of the uniform distribution, in [0, 1).
        num_classes: Default: c.
    """
    log_probabilities = _finite(jax.nn.log_softmax(logits), num_classes)
    return -_expected(log_probabilities, labels, label_smoothing, num_classes)


def sigmoid_cross_entropy(
    logits: Float[Array, "b c"],
    labels: Int[Array, " b"],
    *,
    label_smoothing: float = 0.0,
    num_classes: int | None = None,
) -> Float[Array, " b"]:
    """The sum over classes of binary cross-entropies (Beyer et al., arXiv 2006.07159), the targets smoothed as above.

    Logits of zero make it `c * log(2)`: start the classifier's bias at about `-log(c)` (`head.bias_start`).
    """
    expected = _expected(_finite(logits, num_classes), labels, label_smoothing, num_classes)
    return jax.nn.softplus(logits).sum(axis=1) - expected


def focal_cross_entropy(
    logits: Float[Array, "b c"],
    labels: Int[Array, " b"],
    *,
    focal_gamma: float,
    label_smoothing: float = 0.0,
    num_classes: int | None = None,
) -> Float[Array, " b"]:
    """Cross-entropy in which each class's term is weighted by `(1 - probability) ** focal_gamma` (Lin et al., arXiv
    1708.02002, eq. 4, of the softmax): what is already known counts less. `focal_gamma` is at least 0."""
    log_probabilities = _finite(jax.nn.log_softmax(logits), num_classes)
    # Where a probability reaches one, a power below one would have no finite derivative.
    unknown = jnp.maximum(-jnp.expm1(log_probabilities), 1e-6)
    terms = -(unknown**focal_gamma) * log_probabilities
    return _expected(terms, labels, label_smoothing, num_classes)


def _finite(values: Float[Array, "b c"], num_classes: int | None) -> Float[Array, "b c"]:
    """Zero in the columns of padding, which then add nothing to a sum, nor to a gradient."""
    if num_classes is None or num_classes == values.shape[1]:
        return values
    return jnp.where(jnp.arange(values.shape[1]) < num_classes, values, 0)


def _expected(
    values: Float[Array, "b c"], labels: Int[Array, " b"], label_smoothing: float, num_classes: int | None
) -> Float[Array, " b"]:
    """The mean of values over the smoothed target, a distribution over classes."""
    of_label = jnp.where(_is_label(values, labels), values, 0).sum(axis=1)
    if not label_smoothing:
        return of_label
    return (1 - label_smoothing) * of_label + label_smoothing / (num_classes or values.shape[1]) * values.sum(axis=1)


def _is_label(logits: Float[Array, "b c"], labels: Int[Array, " b"]) -> Bool[Array, "b c"]:
    return jnp.arange(logits.shape[1]) == labels[:, None]


LOSSES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy, "focal": focal_cross_entropy}


def _arcface(cosine: Float[Array, " b"], margin: Float[Array, " b"]) -> Float[Array, " b"]:
    # sin of an angle of 0 or pi has no finite derivative; a cosine may pass 1 by rounding.
    sine = jnp.sqrt(jnp.maximum(1 - jnp.square(cosine), 1e-7))
    moved = cosine * jnp.cos(margin) - sine * jnp.sin(margin)
    # Behind pi the cosine would rise again: go on falling in a straight line there, as the authors' code does.
    return jnp.where(cosine > -jnp.cos(margin), moved, cosine - margin * jnp.sin(margin))


def _cosface(cosine: Float[Array, " b"], margin: Float[Array, " b"]) -> Float[Array, " b"]:
    return cosine - margin


MARGINS = {"arcface": _arcface, "cosface": _cosface}


def with_margin(
    logits: Float[Array, "b c"], labels: Int[Array, " b"], *, kind: str, margins: Float[Array, " c"], scale: float
) -> Float[Array, "b c"]:
    """The logits with the label's made worse by a margin.

    Args:
        logits: `scale` times cosines, of a cosine head.
        labels: In 0..c-1.
        kind: `'arcface'` adds the margin to the angle (Deng et al., arXiv 1801.07698, eq. 3), `'cosface'` takes it from
            the cosine (Wang et al., arXiv 1801.09414, eq. 4).
        margins: Of every class: radians (below pi / 2), or cosine.
        scale: The head's.
    """
    of_label = _is_label(logits, labels)
    cosine = jnp.where(of_label, logits, 0).sum(axis=1) / scale
    moved = scale * MARGINS[kind](cosine, margins[labels])
    return jnp.where(of_label, moved[:, None], logits)


def class_margins(
    class_counts: Int[np.ndarray, " c"], *, size: float, by_frequency: tuple[float, ...]
) -> Float[np.ndarray, " c"]:
    """A margin a class: `size`, or where `by_frequency` is (a, b, c): `a * n ** -b + c` for a class with n training
    images (dynamic margins; Ha et al., arXiv 2010.05350), so that rare classes keep more room."""
    if not by_frequency:
        return np.full(len(class_counts), size, np.float32)
    a, b, c = by_frequency
    return (a * np.maximum(class_counts, 1.0) ** -b + c).astype(np.float32)


def make_loss(
    name: str,
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 2.0,
    logit_adjustment: float = 0.0,
    class_weight_power: float = 0.0,
    margin: str = "",
    margin_size: float = 0.3,
    margin_by_frequency: tuple[float, ...] = (),
    scale: float | None = None,
    class_counts: Int[np.ndarray, " c"] | None = None,
    num_classes: int | None = None,
) -> Loss:
    """The loss of that name with what is asked for around it: margin, logit adjustment, loss, weights, in this order.

    Logit adjustment adds `logit_adjustment * log(frequency)` to the logits while training, and to nothing afterwards:
    the model then learns what tells classes apart and leaves their frequencies to the loss. At 1 it is the loss whose
    minimum is best for the mean accuracy over classes (Menon et al., arXiv 2007.07314, eq. 10; as "balanced softmax"
    Ren et al., arXiv 2007.10740), which top-1 on a test split with as many images of every class is.

    Args:
        name: Of `LOSSES`.
        label_smoothing: In [0, 1).
        focal_gamma: Of `focal`; at least 0.
        logit_adjustment: At least 0; 0 is none. Not for `sigmoid`, whose classes do not compete.
        class_weight_power: The loss of an image counts `n ** -power` for a class with n training images, over its mean
            over the split; 0 is none, 1 makes all classes count alike.
        margin: Of `MARGINS`, or '' for none.
        margin_size, margin_by_frequency: See `class_margins`.
        scale: Of the cosine head that the logits come from; needed for a margin.
        class_counts: Training images of every class; needed for all that goes by frequency. A class without any counts
            as one with one.
        num_classes: Where the logits have more columns, of a padded classifier.

    Raises:
        ValueError: an unknown name, or a value outside its range.
    """
    _check(
        name,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
        logit_adjustment=logit_adjustment,
        class_weight_power=class_weight_power,
        margin=margin,
        by_frequency=tuple(margin_by_frequency),
        class_counts=class_counts,
    )
    settings = {"label_smoothing": label_smoothing} | ({"focal_gamma": focal_gamma} if name == "focal" else {})
    if num_classes is not None:
        settings["num_classes"] = num_classes
    base = functools.partial(LOSSES[name], **settings)
    transforms: list[_Transform] = []
    if margin:
        transforms.append(_margin(margin, margin_size, tuple(margin_by_frequency), scale, class_counts))
    counts = None if class_counts is None else np.maximum(class_counts, 1)
    if logit_adjustment:
        adjustment = (logit_adjustment * np.log(counts / counts.sum())).astype(np.float32)
        transforms.append(lambda logits, labels: logits + _widened(adjustment, logits.shape[1]))
    weights = None
    if class_weight_power:
        rarity = counts**-class_weight_power
        weights = jnp.asarray(rarity * counts.sum() / (counts * rarity).sum(), jnp.float32)

    def loss(logits: Float[Array, "b c"], labels: Int[Array, " b"]) -> Float[Array, " b"]:
        for transform in transforms:
            logits = transform(logits, labels)
        losses = base(logits, labels)
        return losses if weights is None else losses * weights[labels]

    return loss


def _widened(values: Float[np.ndarray, " c"], width: int) -> Float[np.ndarray, " w"]:
    return np.pad(values, (0, width - len(values)))


def _check(name: str, *, class_counts, **values: Any) -> None:
    if name not in LOSSES:
        raise ValueError(f"Unknown loss {name!r}. Known: {', '.join(LOSSES)}.")
    if not 0 <= values["label_smoothing"] < 1:
        raise ValueError(f"loss.label_smoothing={values['label_smoothing']} is outside [0, 1).")
    for setting in ("focal_gamma", "logit_adjustment", "class_weight_power"):
        if not values[setting] >= 0:
            raise ValueError(f"loss.{setting}={values[setting]} is negative.")
    if values["by_frequency"] and not values["margin"]:
        raise ValueError(f"loss.margin_by_frequency={values['by_frequency']} needs loss.margin: {', '.join(MARGINS)}.")
    for setting in ("logit_adjustment", "class_weight_power"):
        if values[setting] and class_counts is None:
            raise ValueError(f"loss.{setting}={values[setting]} needs class_counts.")
    if values["logit_adjustment"] and name == "sigmoid":
        raise ValueError("loss.logit_adjustment is for a softmax; loss.name='sigmoid' has loss.class_weight_power.")


def _margin(kind: str, size: float, by_frequency: tuple[float, ...], scale: float | None, class_counts) -> _Transform:
    if kind not in MARGINS:
        raise ValueError(f"loss.margin={kind!r} is unknown; known: {', '.join(MARGINS)}, or '' for none.")
    if scale is None:
        raise ValueError(f"loss.margin={kind!r} needs head.name='cosine'.")
    if len(by_frequency) not in (0, 3):
        raise ValueError(f"loss.margin_by_frequency={by_frequency} must be (a, b, c), or () for the same of all.")
    if class_counts is None:
        raise ValueError(f"loss.margin={kind!r} needs class_counts.")
    margins = class_margins(class_counts, size=size, by_frequency=by_frequency)
    if not (margins.min() >= 0 and margins.max() < np.pi / 2):
        raise ValueError(f"loss.margin={kind!r}: margins from {margins.min():.3g} to {margins.max():.3g}; 0 to pi / 2.")
    return functools.partial(with_margin, kind=kind, margins=jnp.asarray(margins), scale=scale)


def make_objective(loss: Loss, *, group_weight: float = 0.0) -> Objective:
    """What training makes small: `(outputs, labels, groups) -> float32[b]`.

    Args:
        loss: Of the classifier.
        group_weight: Of the group head's cross-entropy beside it; 0 leaves the head out.

    Raises:
        ValueError: a negative weight.
    """
    if not group_weight >= 0:
        raise ValueError(f"loss.group_weight={group_weight} is negative.")

    def objective(outputs: Outputs, labels: Int[Array, " b"], groups: Int[Array, " b"]) -> Float[Array, " b"]:
        losses = loss(outputs.logits, labels)
        if group_weight:
            losses = losses + group_weight * softmax_cross_entropy(outputs.group_logits, groups)
        return losses

    return objective
