"""Votes, prototypes and fusion against scikit-learn and NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from p10k_jax.evaluation import knn
from p10k_jax.evaluation.neighbours import nearest

CLASSES = 7


@pytest.fixture(scope="module")
def vectors():
    """Train vectors and labels (class 5 is absent), queries."""
    random = np.random.RandomState(0)
    labels = random.choice([0, 1, 2, 3, 4, 6], 83)
    centres = random.standard_normal((CLASSES, 12))
    train = centres[labels] + 0.9 * random.standard_normal((83, 12))
    queries = centres[random.randint(0, CLASSES, 40)] + 0.9 * random.standard_normal((40, 12))
    return train.astype("f"), labels, queries.astype("f")


@pytest.mark.parametrize("k", [1, 3, 20, 83])
def test_votes_equal_scikit_learn(vectors, k):
    train, labels, queries = vectors
    places, similarities = nearest(queries, train, k)
    probabilities = np.asarray(knn.votes(labels[places], similarities, num_classes=CLASSES))
    oracle = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    expected = oracle.fit(train, labels).predict_proba(queries)
    np.testing.assert_allclose(probabilities[:, oracle.classes_], expected, atol=2e-5)
    assert (probabilities[:, 5] == 0).all()


def test_missing_neighbours_do_not_vote():
    labels, similarities = np.array([[2, 1, -1, -1]]), np.array([[0.9, 0.9, -np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(knn.votes(labels, similarities, num_classes=4), [[0, 0.5, 0.5, 0]])
    nobody = knn.votes(np.array([[-1]]), np.array([[-np.inf]], np.float32), num_classes=4)
    np.testing.assert_array_equal(nobody, np.zeros((1, 4)))


def test_any_temperature_is_finite():
    labels, similarities = np.array([[2, 1]]), np.array([[1.0, 0.99]], np.float32)
    for temperature in (1e-4, 1e4):
        found = np.asarray(knn.votes(labels, similarities, num_classes=3, temperature=temperature))
        np.testing.assert_allclose(found.sum(), 1, rtol=1e-6)


def test_prototypes_are_unit_means_of_unit_vectors(vectors):
    train, labels, queries = vectors
    means, present = knn.prototypes(train, labels, num_classes=CLASSES)
    assert present.tolist() == [True] * 5 + [False, True]
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    expected = np.stack([unit[labels == label].mean(axis=0) for label in range(CLASSES) if label != 5])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(means[present], expected, atol=1e-6)
    probabilities = np.asarray(knn.prototype_probabilities(queries, means, present))
    cosines = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ expected.T
    first = np.array([0, 1, 2, 3, 4, 6])[cosines.argmax(axis=1)]
    np.testing.assert_array_equal(probabilities.argmax(axis=1), first)
    weights = np.exp(cosines / 0.07)
    np.testing.assert_allclose(probabilities[:, present], weights / weights.sum(axis=1, keepdims=True), rtol=1e-4)
    assert (probabilities[:, 5] == 0).all()


def head_and_neighbours(seed, rows=60, classes=40, k=12):
    """A head's whole probabilities with ties, its first five, and neighbours."""
    random = np.random.RandomState(seed)
    head = random.dirichlet(np.full(classes, 0.2), rows).astype("f")
    head[: rows // 2] = np.round(head[: rows // 2], 1)  # ties, and zeros
    # Ranked by logits that say more than the probabilities: of equals any order.
    top = np.lexsort((random.uniform(size=head.shape), -head), axis=1)[:, :5].astype(np.int32)
    scores = np.take_along_axis(head, top, axis=1)
    labels = random.randint(0, classes, (rows, k)).astype(np.int32)
    similarities = -np.sort(-random.uniform(0.5, 1, (rows, k)).astype("f"), axis=1)
    labels[-1, 3:], similarities[-1, 3:] = -1, -np.inf
    of_class = np.take_along_axis(head, labels, axis=1)
    known = knn.known_probabilities(top, scores, labels, of_class, num_classes=classes)
    return head, top, scores, known, labels, similarities


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 0.9])
def test_fusion_of_what_is_known_gives_the_first_five_of_the_whole(weight):
    for seed in range(5):
        head, top, _, known, labels, similarities = head_and_neighbours(seed)
        vote = knn.votes(labels, similarities, num_classes=40)
        weight32 = jnp.float32(weight)
        whole = np.float32(1 - weight32) * head + np.float32(weight32) * np.asarray(vote)
        # Of equals the head's first five in their order, then the lower labels.
        rank = np.broadcast_to(5 + np.arange(40), whole.shape).copy()
        np.put_along_axis(rank, top, np.arange(5)[None], axis=1)
        order = np.lexsort((rank, -whole), axis=1)[:, :5]
        found, scores = knn.fused_top(knn.fuse(known, vote, weight32), top, 5)
        np.testing.assert_array_equal(found, order)
        np.testing.assert_allclose(scores, np.take_along_axis(whole, order, axis=1), rtol=1e-6)


def test_the_ends_of_fusion_are_the_head_and_the_votes_to_the_last_bit():
    _, top, scores, known, labels, similarities = head_and_neighbours(9)
    vote = knn.votes(labels, similarities, num_classes=40)
    found = knn.fused_top(knn.fuse(known, vote, jnp.float32(0)), top, 5)
    np.testing.assert_array_equal(found[0], top)
    np.testing.assert_array_equal(found[1], scores)
    np.testing.assert_array_equal(knn.fuse(known, vote, jnp.float32(1)), vote)


def test_the_grid_is_fusion_at_each_place():
    _, top, _, known, labels, similarities = head_and_neighbours(3)
    ks, weights = (1, 5, 12), (0.0, 0.3, 1.0)
    first = np.asarray(knn.fused_first(known, top, labels, similarities, ks=ks, weights=weights))
    assert first.shape == (60, 3, 3)
    np.testing.assert_array_equal(first[:, 0], np.repeat(top[:, :1], 3, axis=1))
    for column, k in enumerate(ks):
        vote = np.asarray(knn.votes(labels[:, :k], similarities[:, :k], num_classes=40))
        np.testing.assert_array_equal(first[:, 2, column], vote.argmax(axis=1))
        mixed = np.float32(0.7) * np.asarray(known) + np.float32(0.3) * vote
        fused, _ = knn.fused_top(mixed, top, 1)
        np.testing.assert_array_equal(first[:, 1, column], fused[:, 0])
    assert len(np.unique(first)) > 5


def test_of_equal_pairs_the_one_closest_to_the_head_is_chosen():
    assert knn.best_pair(np.array([[0.1, 0.1], [0.5, 0.7], [0.7, 0.7]])) == (1, 1)
    assert knn.best_pair(np.full((3, 2), 0.4)) == (0, 0)
