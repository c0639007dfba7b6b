"""A picture of what the model is trained on: some rows of a batch, augmented as the step augments them."""

import math

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from p10k_jax.data.augment import Normalisation, Views, denormalise
from p10k_jax.training.step import step_keys

_GAP = 2  # pixels between pictures


def views_picture(
    key: Array, step: int, batch: dict[str, Array], *, views: Views, statistics: Normalisation, count: int = 16
) -> UInt8[np.ndarray, "h w 3"]:
    """The first rows of a batch that this process holds, in a square grid.

    They are the step's own views, drawn from the same keys, before mixing. Nothing here waits for other processes.

    Args:
        key: The state's, before the step.
        step: Number of steps done before.
        batch: Global arrays.
        views: Those of the step.
        statistics: That the views normalise by.
        count: Pictures, at most.
    """
    seen = seen_images(key, step, batch, views=views, count=count)
    return grid(np.asarray(jax.jit(denormalise, static_argnums=1)(seen, statistics)))


def seen_images(
    key: Array, step: int, batch: dict[str, Array], *, views: Views, count: int
) -> Float[np.ndarray, "k n n 3"]:
    """What the step makes of the first `count` rows that this process holds; see `views_picture`."""
    rows, canvases = _local_rows(batch["image"], count)
    aspects = _local_rows(batch["aspect"], count)[1]
    _, keys = step_keys(np.asarray(key), step, len(batch["image"]))
    return np.asarray(jax.jit(views)(keys[rows], canvases, aspects))


def _local_rows(array: Array, count: int) -> tuple[Int[np.ndarray, " k"], np.ndarray]:
    """Row numbers in the global array, ascending, and the rows."""
    shards = {shard.index[0].indices(len(array))[0]: shard.data for shard in array.addressable_shards}
    rows, values = [], []
    for start in sorted(shards):
        if len(rows) < count:
            values.append(np.asarray(shards[start])[: count - len(rows)])
            rows.extend(range(start, start + len(values[-1])))
    return np.array(rows), np.concatenate(values)


def grid(images: UInt8[np.ndarray, "k n n 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Pictures in rows of as many as there are columns, white between them and where one is missing."""
    columns = math.ceil(math.sqrt(len(images)))
    cell = images.shape[1] + _GAP
    out = np.full((math.ceil(len(images) / columns) * cell - _GAP, columns * cell - _GAP, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = (cell * place for place in divmod(number, columns))
        out[top : top + len(image), left : left + len(image)] = image
    return out
