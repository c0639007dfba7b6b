"""Predictions tables in which given images are right."""

import numpy as np
import pyarrow as pa

from p10k_jax.evaluation.predictions import SCHEMA


def predictions(right, *, labels=None, names=None):
    """A predictions table in which the given images are right."""
    right = np.asarray(right)
    count = len(right)
    labels = np.arange(count) % 7 if labels is None else labels
    top = (labels + np.where(right, 0, 1))[:, None] + np.arange(5)
    names = [f"{number:06d}.jpg" for number in range(count)] if names is None else names
    columns = [names, labels, np.zeros(count), [""] * count, list(top.astype("i4")), [[0.2] * 5] * count]
    return pa.Table.from_arrays(
        [pa.array(column, field.type, from_pandas=True) for column, field in zip(columns, SCHEMA, strict=True)],
        schema=SCHEMA,
    )
