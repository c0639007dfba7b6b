"""Classes from embeddings alone: votes of the nearest neighbours, prototypes, and their fusion with the head.

All give float32[b, c] of probabilities.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from p10k_jax.evaluation.neighbours import unit_rows
from p10k_jax.models.heads import unit

TEMPERATURE = 0.07


def votes(
    labels: Int[Array, "b k"], similarities: Float[Array, "b k"], *, num_classes: int, temperature: float = TEMPERATURE
) -> Float[Array, "b c"]:
    """Each neighbour votes for its class with the weight exp(similarity / temperature), over the sum of the weights
    (Wu et al., arXiv 1805.01978, section 3.4; Caron et al., arXiv 2104.14294).

    Args:
        labels: Classes of the nearest neighbours, nearest first; -1 where there is none.
        similarities: Theirs, -inf where there is none.
        num_classes: c.
        temperature: Above 0; the lower, the more the nearest count.
    """
    similarities = jnp.where(labels < 0, -jnp.inf, similarities)
    # The largest weight is 1, as in a softmax: no overflow at any temperature.
    largest = jnp.where(labels[:, :1] < 0, 0.0, similarities[:, :1])
    weights = jnp.exp((similarities - largest) / temperature)
    total = jnp.maximum(weights.sum(axis=1, keepdims=True), jnp.finfo(jnp.float32).tiny)
    return _at_classes(labels, num_classes).add(weights / total, mode="drop")


def _at_classes(labels: Int[Array, "b k"], num_classes: int):
    """Places in zeros float32[b, c]; a label of -1 falls outside."""
    rows = jnp.arange(len(labels))[:, None]
    return jnp.zeros((len(labels), num_classes), jnp.float32).at[rows, jnp.where(labels < 0, num_classes, labels)]


def prototypes(
    vectors: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], *, num_classes: int
) -> tuple[Float[np.ndarray, "c d"], Bool[np.ndarray, " c"]]:
    """The mean of the unit vectors of each class (Snell et al., arXiv 1703.05175, equation 1), itself made unit; and
    which classes have any vector."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    out, there = np.zeros((num_classes, vectors.shape[1]), np.float32), np.zeros(num_classes, bool)
    # Sums a class after the other, in float64: the same on every machine.
    for label, rows in zip(present, np.split(order, starts[1:]), strict=True):
        out[label] = unit_rows(vectors[rows]).mean(axis=0, dtype=np.float64)
        there[label] = True
    return unit_rows(out), there


def prototype_probabilities(
    queries: Float[Array, "b d"],
    prototypes: Float[Array, "c d"],
    present: Bool[Array, " c"],
    *,
    temperature: float = TEMPERATURE,
) -> Float[Array, "b c"]:
    """Softmax of cosine / temperature; the nearest prototype is first at any temperature. Classes that are not present
    get 0."""
    cosines = jnp.einsum("bd,cd->bc", unit(queries), prototypes, precision=jax.lax.Precision.HIGHEST)
    return jax.nn.softmax(jnp.where(present, cosines / temperature, -jnp.inf))


def known_probabilities(
    top_labels: Int[Array, "b t"],
    top_scores: Float[Array, "b t"],
    labels: Int[Array, "b k"],
    scores: Float[Array, "b k"],
    *,
    num_classes: int,
) -> Float[Array, "b c"]:
    """What fusion needs of the head's probabilities: the first t, those of the neighbours' classes, and 0 for the rest.

    The first t classes after fusion with the votes of these neighbours, by `fused_top`, are those of the whole
    probabilities. A class outside has no vote and the head's first t before it: fusion multiplies its probability and
    theirs by the same number, adds nothing to its, and of equals the head's order holds.

    Args:
        top_labels, top_scores: The head's first t, best first.
        labels, scores: The neighbours' classes, -1 where there is none, and the head's probabilities of them.
        num_classes: c.
    """
    classes = jnp.concatenate([labels, top_labels], axis=1)
    return _at_classes(classes, num_classes).set(jnp.concatenate([scores, top_scores], axis=1), mode="drop")


def fuse(head: Float[Array, "b c"], vote: Float[Array, "b c"], weight: Float[Array, ""]) -> Float[Array, "b c"]:
    """(1 - weight) head + weight vote; weight 0 gives the head's to the last bit, 1 the vote's."""
    return (1 - weight) * head + weight * vote


def fused_top(
    fused: Float[Array, "b c"], top_labels: Int[Array, "b t"], k: int
) -> tuple[Int[Array, "b k"], Float[Array, "b k"]]:
    """The first k classes after fusion with a weight below 1, and what they have.

    Of equals the head's first t come first, in its order, for it ranks by logits, also where probabilities are 0 in
    float32; then the lower labels.
    """
    kept = jnp.take_along_axis(fused, top_labels, axis=1)
    scores, places = jax.lax.top_k(jnp.concatenate([kept, fused + _apart(top_labels, fused.shape[1])], axis=1), k)
    t = top_labels.shape[1]
    return jnp.where(
        places < t, jnp.take_along_axis(top_labels, jnp.minimum(places, t - 1), axis=1), places - t
    ), scores


def _apart(top_labels: Int[Array, "b t"], num_classes: int) -> Float[Array, "b c"]:
    return _at_classes(top_labels, num_classes).set(-jnp.inf)


def fused_first(
    head: Float[Array, "b c"],
    top_labels: Int[Array, "b t"],
    labels: Int[Array, "b k"],
    similarities: Float[Array, "b k"],
    *,
    ks: Sequence[int],
    weights: Sequence[float],
) -> Int[Array, "b w n"]:
    """The first class after fusion, for each weight and each of n numbers of neighbours; with weight 1 by the votes
    alone, of equals the lower label, and else by `fused_top`."""
    apart = _apart(top_labels, head.shape[1])

    def first(k: int) -> Int[Array, "w b"]:
        vote = votes(labels[:, :k], similarities[:, :k], num_classes=head.shape[1])

        def at(weight):
            fused = fuse(head, vote, weight)
            kept, others = jnp.take_along_axis(fused, top_labels, axis=1), fused + apart
            of_head = jnp.take_along_axis(top_labels, kept.argmax(axis=1)[:, None], axis=1)[:, 0]
            ranked = jnp.where(kept.max(axis=1) >= others.max(axis=1), of_head, others.argmax(axis=1))
            return jnp.where(weight < 1, ranked, vote.argmax(axis=1))

        return jax.lax.map(at, jnp.asarray(weights, jnp.float32))

    return jnp.stack([first(k).T for k in ks], axis=2)


def best_pair(accuracy: Float[np.ndarray, "w n"]) -> tuple[int, int]:
    """Places of the best weight and number of neighbours; of equals the least weight, then the fewest neighbours."""
    weight, k = np.unravel_index(np.argmax(accuracy), accuracy.shape)
    return int(weight), int(k)
