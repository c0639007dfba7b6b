"""Whether scores are probabilities: of the images with a top-1 score of 0.8, are 80 % right?"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from p10k_jax.evaluation.intervals import Statistic, scattered

BINS = 15
_EDGES = np.linspace(0, 1, BINS + 1)


def calibration_bins(right: Bool[np.ndarray, " n"], confidence: Float[np.ndarray, " n"]) -> list[dict[str, Any]]:
    """The reliability diagram as rows: 15 bins of equal width over the top-1 score (Guo et al., arXiv 1706.04599).

    Args:
        right: Whether the first prediction is the label.
        confidence: Its score, in [0, 1].

    Returns:
        For each bin, which holds the scores above `from` and up to `to` (the first also 0): `count`, the mean
        `confidence` and the `accuracy`; the last two are None in an empty bin.
    """
    bins = _bin_of(confidence)
    counts = np.bincount(bins, minlength=BINS)
    rows = []
    for number, count in enumerate(counts):
        row = {"from": float(_EDGES[number]), "to": float(_EDGES[number + 1]), "count": int(count)}
        row |= {"confidence": None, "accuracy": None}
        if count:
            here = bins == number
            row |= {"confidence": float(confidence[here].mean()), "accuracy": float(right[here].mean())}
        rows.append(row)
    return rows


def expected_calibration_error(right: Bool[np.ndarray, " n"], confidence: Float[np.ndarray, " n"]) -> Statistic:
    """The mean distance of accuracy from confidence over the bins, weighted by their images (ibid., equation 3).

    That is the sum over bins of |sum of (right - confidence)|, over the number of images.
    """
    differences = scattered(right - confidence, _bin_of(confidence), BINS)
    images = len(right)  # of every resample too
    return Statistic(differences, lambda sums: np.abs(sums).sum(axis=1) / images)


def _bin_of(confidence: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.searchsorted(_EDGES[1:-1], confidence, side="left")
