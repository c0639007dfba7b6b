"""Retrieval figures against their definitions written out, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from p10k_jax.evaluation.retrieval import retrieval_figures


def oracle(labels, neighbour_labels, relevant, k):
    """Recall@k and mAP@k, a loop a sum."""
    recalls, averages = [], []
    for label, row, number in zip(labels, neighbour_labels, relevant, strict=True):
        if number == 0:
            continue
        hits = [other == label for other in row[:k]]
        recalls.append(any(hits))
        total = sum(sum(hits[: i + 1]) / (i + 1) for i in range(len(hits)) if hits[i])
        averages.append(total / min(k, number))
    return np.mean(recalls), np.mean(averages)


@pytest.mark.parametrize("seed", range(3))
def test_equal_their_definitions(seed):
    random = np.random.RandomState(seed)
    gallery = random.randint(0, 8, 60)
    labels = random.randint(0, 10, 50)  # classes 8 and 9 have no picture in the gallery
    ranked = gallery[np.stack([random.permutation(60)[:40] for _ in labels])]
    relevant = np.bincount(gallery, minlength=10)[labels]
    figures = retrieval_figures(labels, ranked, relevant, recall_at=(1, 5, 10), map_at=(1, 10, 40))
    assert figures["left_out"] == (labels >= 8).sum() > 0
    assert figures["queries"] == (labels < 8).sum()
    for k in (1, 5, 10):
        assert figures[f"recall_at_{k}"] == oracle(labels, ranked, relevant, k)[0]
    for k in (1, 10, 40):
        np.testing.assert_allclose(figures[f"map_at_{k}"], oracle(labels, ranked, relevant, k)[1], rtol=1e-12)


def test_equals_scikit_learn_where_the_whole_gallery_is_ranked():
    random = np.random.RandomState(4)
    gallery, labels = random.randint(0, 5, 30), random.randint(0, 5, 20)
    scores = random.standard_normal((20, 30))
    ranked = np.full((20, 50), -1)  # fewer than 50 in the gallery
    ranked[:, :30] = gallery[np.argsort(-scores, axis=1)]
    relevant = np.bincount(gallery, minlength=5)[labels]
    figures = retrieval_figures(labels, ranked, relevant, map_at=(50,))
    expected = [average_precision_score(gallery == label, row) for label, row in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(figures["map_at_50"], np.mean(expected), rtol=1e-12)


def test_a_perfect_order_is_one_although_less_is_shown_than_there_is():
    figures = retrieval_figures(np.array([3]), np.full((1, 10), 3), np.array([25]), map_at=(10,))
    assert figures["map_at_10"] == figures["recall_at_1"] == 1


def test_queries_that_nothing_answers():
    assert retrieval_figures(np.array([3]), np.array([[1]]), np.array([0])) == {"queries": 0, "left_out": 1}
