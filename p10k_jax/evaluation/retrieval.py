"""How well the nearest neighbours are of the query's class."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

RECALL_AT, MAP_AT = (1, 5, 10), (10, 100)


def retrieval_figures(
    labels: Int[np.ndarray, " q"],
    neighbour_labels: Int[np.ndarray, "q n"],
    relevant: Int[np.ndarray, " q"],
    *,
    recall_at: Sequence[int] = RECALL_AT,
    map_at: Sequence[int] = MAP_AT,
) -> dict[str, float | int]:
    """Recall@k and mean average precision@k.

    recall@k is the fraction of queries with at least one of their class among the k nearest. AP@k of a query is

        1 / min(k, R) * sum over ranks i <= k of precision@i * [the i-th is of its class]

    with R pictures of its class in the gallery and precision@i the fraction of its class among the first i; mAP@k is
    its mean over the queries (Musgrave et al., arXiv 2003.08505, call it MAP@R for k = R).

    Args:
        labels: Of the queries.
        neighbour_labels: Of their neighbours, nearest first, -1 behind the end of the gallery; n at least the largest
            k, or as many as the gallery has.
        relevant: R of each query, the query itself not counted.

    Returns:
        `queries` that count; `left_out`, those with R = 0, which nothing could answer; `recall_at_<k>`, `map_at_<k>`,
        none where no query counts.
    """
    answerable = relevant > 0
    figures: dict[str, float | int] = {"queries": int(answerable.sum()), "left_out": int((~answerable).sum())}
    if not answerable.any():
        return figures
    hits = (neighbour_labels == labels[:, None])[answerable]
    relevant = relevant[answerable]
    for k in recall_at:
        figures[f"recall_at_{k}"] = float(hits[:, :k].any(axis=1).mean())
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    for k in map_at:
        average = (precision * hits)[:, :k].sum(axis=1) / np.minimum(k, relevant)
        figures[f"map_at_{k}"] = float(average.mean())
    return figures
