"""Accuracy by parts of the catalogue: rare and frequent classes, groups of products."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int

# How many training pictures a class has, from and to. Few, medium and many as for long-tailed ImageNet (Liu et al.,
# arXiv 1904.05160), whose bounds of 20 and 100 would leave most classes of Products-10K in the tail.
FREQUENCY_BANDS: dict[str, tuple[int, int | None]] = {"few": (0, 5), "medium": (6, 20), "many": (21, None)}


def frequency_bands(
    labels: Int[np.ndarray, " n"], train_images: Int[np.ndarray, " c"]
) -> dict[str, Bool[np.ndarray, " n"]]:
    """Which images are of classes with few, medium or many training pictures; bands without an image are left out."""
    seen = train_images[labels]
    bands = {
        name: (seen >= least) & (seen <= (np.inf if most is None else most))
        for name, (least, most) in FREQUENCY_BANDS.items()
    }
    return {name: here for name, here in bands.items() if here.any()}


def by_frequency(
    labels: Int[np.ndarray, " n"], right: Bool[np.ndarray, " n"], bands: dict[str, Bool[np.ndarray, " n"]]
) -> dict[str, dict[str, Any]]:
    """For each band `train_images` (from and to, None where open), `classes` and `count` (images) of the split, `top1`.

    Args:
        labels: The classes that the images are of.
        right: Whether the first prediction is the label.
        bands: Of `frequency_bands`.
    """
    return {
        name: {"train_images": list(FREQUENCY_BANDS[name])} | _accuracy(labels, right, here)
        for name, here in bands.items()
    }


def by_group(
    labels: Int[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    names: dict[int, str],
) -> list[dict[str, Any]]:
    """For each group of the split, in order: `group`, `name`, `classes` and `count` (images) of the split, `top1`.

    Args:
        labels: The classes that the images are of.
        groups: The groups that the images are of.
        right: Whether the first prediction is the label.
        names: Of groups; one that is missing is an empty text.
    """
    return [
        {"group": int(group), "name": names.get(int(group), "")} | _accuracy(labels, right, groups == group)
        for group in np.unique(groups)
    ]


def _accuracy(
    labels: Int[np.ndarray, " n"], right: Bool[np.ndarray, " n"], here: Bool[np.ndarray, " n"]
) -> dict[str, Any]:
    return {"classes": len(np.unique(labels[here])), "count": int(here.sum()), "top1": float(right[here].mean())}
