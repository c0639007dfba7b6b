"""Which classes are taken for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

MOST = 50


def confusions(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], names: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """The most frequent errors, as ordered pairs of classes: cells off the diagonal of the confusion matrix.

    Args:
        labels: The classes that the images are of.
        predicted: The first predictions.
        names: By label; without them the names are empty texts.

    Returns:
        At most 50 rows `label, label_name, predicted, predicted_name, count, of`: `count` of the `of` images of `label`
        were taken for `predicted`. The most frequent first, of equals the lower label, then the lower prediction.
    """
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], pairs[0], -counts))[:MOST]
    images = np.bincount(labels)
    return [
        {
            "label": int(label),
            "label_name": names[label] if names else "",
            "predicted": int(taken_for),
            "predicted_name": names[taken_for] if names else "",
            "count": int(count),
            "of": int(images[label]),
        }
        for (label, taken_for), count in zip(pairs[:, order].T, counts[order], strict=True)
    ]
