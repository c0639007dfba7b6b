"""The few figures that training watches, out of a table of predictions; `figures` has them and all the others."""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool


def metrics(table: pa.Table) -> dict[str, float | int]:
    """Figures of a predictions table.

    Returns:
        `count`; `top1` and `top5`, fractions of rows whose label is the first, or among the first five, of
        `top5_labels`; and for each usage present (`public`, `private`) `top1_<usage>` and `count_<usage>`.

    Raises:
        ValueError: an empty table.
    """
    if table.num_rows == 0:
        raise ValueError("A predictions table without rows has no accuracy.")
    ranked = hits(table)
    first = ranked[:, 0]
    figures = {"count": table.num_rows, "top1": float(first.mean()), "top5": float(ranked.any(axis=1).mean())}
    usages = np.array(table["usage"].to_pylist())
    for usage in sorted(set(usages) - {""}):
        figures[f"top1_{usage}"] = float(first[usages == usage].mean())
        figures[f"count_{usage}"] = int((usages == usage).sum())
    return figures


def hits(table: pa.Table) -> Bool[np.ndarray, "n k"]:
    """Which of the k = min(5, number of classes) predictions of each row, best first, is its label."""
    return np.stack(table["top5_labels"].to_pylist()) == table["label"].to_numpy()[:, None]
