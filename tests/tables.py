"""Predictions tables for tests."""

import numpy as np
import pyarrow as pa

from p10k_jax.evaluation.predictions import SCHEMA


def table(labels, ranked, usages, groups=None, scores=None) -> pa.Table:
    """A predictions table of the given columns; without scores each is 0.5, without groups each is 0."""
    n = len(labels)
    scores = [[0.5] * len(ranked[0])] * n if scores is None else scores
    columns = [[f"{i}.jpg" for i in range(n)], labels, [0] * n if groups is None else groups, usages, ranked, scores]
    return pa.table(
        [pa.array(list(column), field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def random_table(n=3001, classes=40, *, accuracy=0.7, width=5, seed=0) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """A table of skewed classes, none empty, with usages, groups and scores, and its columns as NumPy arrays."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, n, p=random.dirichlet(np.full(classes, 0.7)))
    labels[:classes] = np.arange(classes)
    ranked = np.stack([random.permutation(classes)[:width] for _ in labels])
    right = random.random(n) < accuracy
    for row in np.flatnonzero(right):
        where = np.flatnonzero(ranked[row] == labels[row])
        ranked[row, where[0] if len(where) else 0], ranked[row, 0] = ranked[row, 0], labels[row]
    scores = -np.sort(-random.dirichlet(np.full(width, 0.4), n)).astype(np.float32)
    columns = {
        "label": labels,
        "ranked": ranked,
        "usage": random.choice(["private", "public"], n, p=[0.7, 0.3]),
        "group": labels % 7,
        "scores": scores,
    }
    return table(labels, ranked, columns["usage"], columns["group"], scores), columns
