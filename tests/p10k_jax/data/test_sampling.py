import hashlib
import pickle
import time

import numpy as np
import pytest
from scipy import stats

from p10k_jax.data.order import TrainingOrder
from p10k_jax.data.sampling import (
    DeferredOrder,
    WeightedOrder,
    balanced_order,
    class_weights,
    group_weights,
    sampling_weights,
)

# Products-10K's size: a long tail of 9,691 classes in 360 groups.
NUMBER, CLASSES, GROUPS = 141_931, 9_691, 360


def long_tail():
    labels = np.repeat(np.arange(CLASSES), 2 + 22_000 // (np.arange(CLASSES) + 40))
    assert len(labels) < NUMBER
    labels = np.concatenate([labels, np.zeros(NUMBER - len(labels), np.int64)])
    labels = np.random.RandomState(0).permutation(labels)
    return labels, labels * 7 % GROUPS


LABELS, OF_GROUPS = long_tail()
NAMES = ["class", "sqrt", "group"]


def order(name, seed=0):
    return balanced_order(name, seed=seed, labels=LABELS, groups=OF_GROUPS)


def epoch(order, number=0, size=NUMBER):
    indices, mask = order(np.arange(number * size, (number + 1) * size))
    assert mask.all()
    return indices


def expected_share(name, label, group):
    """Of a class, from the words that describe the name."""
    sizes = np.bincount(LABELS)
    if name == "class":
        return 1 / CLASSES
    if name == "sqrt":
        return np.sqrt(sizes[label]) / np.sqrt(sizes).sum()
    return 1 / GROUPS / len(np.unique(LABELS[group == OF_GROUPS]))


@pytest.mark.parametrize("name", NAMES)
def test_weights_give_each_class_its_share(name):
    weights = sampling_weights(name, LABELS, OF_GROUPS)
    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights.sum(), 1)
    for label in (0, 1, 17, 5000, CLASSES - 1):
        mine = weights[label == LABELS]
        np.testing.assert_allclose(mine.sum(), expected_share(name, label, label * 7 % GROUPS))
        np.testing.assert_allclose(mine, mine[0])


def test_class_exponent_of_one_leaves_them_as_they_come():
    np.testing.assert_allclose(class_weights(LABELS, exponent=1.0), 1 / NUMBER)
    np.testing.assert_array_equal(class_weights(LABELS, exponent=0.5), sampling_weights("sqrt", LABELS, OF_GROUPS))


def test_a_class_in_two_groups_counts_in_each():
    labels, groups = np.array([3, 3, 3, 5, 3]), np.array([0, 0, 0, 0, 2])
    np.testing.assert_allclose(group_weights(labels, groups), [1 / 12, 1 / 12, 1 / 12, 1 / 4, 1 / 2])


@pytest.mark.parametrize("name", NAMES)
def test_counts_of_an_epoch_are_floor_or_ceil_of_what_is_expected(name):
    sampled = order(name)
    whole = np.abs(np.bincount(epoch(sampled), minlength=NUMBER) - NUMBER * sampled.weights)
    assert whole.max() < 1 + 1e-6, "examples"
    for keys in (LABELS, OF_GROUPS) if name == "group" else (LABELS,):
        expected = np.bincount(keys, NUMBER * sampled.weights)
        for number in range(2):
            counts = np.bincount(keys[epoch(sampled, number)], minlength=len(expected))
            assert np.abs(counts - expected).max() < 1 + 1e-6


def test_every_example_of_a_class_is_as_likely():
    labels = np.repeat(np.arange(3), (5, 40, 155))
    sampled = balanced_order("class", seed=1, labels=labels, groups=np.zeros_like(labels))
    epochs = 3000
    counts = np.bincount(sampled(np.arange(200 * epochs))[0], minlength=200)
    for label in range(3):
        mine = counts[labels == label]
        np.testing.assert_allclose(mine.mean(), epochs * 200 / 3 / len(mine), rtol=1e-3)
        # Within an epoch none comes twice before all have come: counts vary less than chi-square allows, never more.
        assert stats.chisquare(mine).pvalue > 1e-3


def test_places_of_a_class_are_uniform_within_the_epoch():
    drawn = LABELS[epoch(order("class"))]
    places = np.flatnonzero(np.isin(drawn, np.arange(0, CLASSES, 50)))
    assert stats.kstest(places / NUMBER, "uniform").pvalue > 1e-3


def test_weights_that_are_zero_never_come():
    weights, strata = np.array([0.0, 3.0, 0.0, 1.0]), np.zeros(4, np.int64)
    drawn = WeightedOrder(0, weights, strata)(np.arange(4000))[0]
    np.testing.assert_array_equal(np.bincount(drawn, minlength=4), [0, 3000, 0, 1000])


@pytest.mark.parametrize("name", NAMES)
def test_any_places_equal_the_whole(name):
    sampled = order(name)
    whole = np.concatenate([epoch(sampled, 0), epoch(sampled, 1)])
    for places in (np.arange(NUMBER - 50, NUMBER + 50), np.array([5, 2 * NUMBER - 1, 0, NUMBER, 5])):
        np.testing.assert_array_equal(sampled(places)[0], whole[places])
    assert not np.array_equal(whole[:NUMBER], whole[NUMBER:])
    assert not np.array_equal(epoch(order(name, seed=1)), whole[:NUMBER])


def test_order_never_changes_between_versions():
    # Frozen: a change of these would change the batches of runs that are resumed.
    for name, frozen in FROZEN.items():
        whole = epoch(order(name, seed=5), 3)
        assert hashlib.sha256(whole.astype("<i8").tobytes()).hexdigest()[:16] == frozen, name


FROZEN = {"class": "64d0f2f5d2679452", "sqrt": "a4d01ee6afcc5bd1", "group": "d39f1ebeaaac8d54"}


def test_an_epoch_is_made_fast_and_pickles():
    sampled = order("group")
    copy = pickle.loads(pickle.dumps(sampled))  # as Grain sends it to its workers
    times = []
    for number in range(3):
        start = time.perf_counter()
        drawn = epoch(copy, number)
        times.append(time.perf_counter() - start)
        np.testing.assert_array_equal(drawn, epoch(sampled, number))
    assert min(times) < 0.2


def test_deferred_order():
    plain, balanced = TrainingOrder(4, NUMBER), order("class", seed=4)
    deferred = DeferredOrder(plain, balanced, start=1000)
    places = np.array([999, 1000, 0, 1500, NUMBER + 1000])
    indices, mask = deferred(places)
    assert mask.all()
    expected = [plain([999]), balanced([0]), plain([0]), balanced([500]), balanced([NUMBER])]
    np.testing.assert_array_equal(indices, np.concatenate([examples for examples, _ in expected]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(deferred))(places)[0], indices)
    # From the start on, whole balanced epochs.
    counts = np.bincount(LABELS[deferred(np.arange(1000, 1000 + NUMBER))[0]], minlength=CLASSES)
    assert set(np.unique(counts)) <= {NUMBER // CLASSES, NUMBER // CLASSES + 1}


def test_bad_input():
    with pytest.raises(ValueError, match=r"sampling\.name='classes' is unknown; known: class, sqrt, group"):
        sampling_weights("classes", LABELS, OF_GROUPS)
    with pytest.raises(ValueError, match=r"sampling\.exponent=1\.5 is outside 0\.\.1"):
        class_weights(LABELS, exponent=1.5)
    with pytest.raises(ValueError, match="must be finite, not negative, and not all 0"):
        WeightedOrder(0, np.array([1.0, -1.0]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"weights of shape \(2,\) and strata of shape \(3,\)"):
        WeightedOrder(0, np.ones(2), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"sampling\.start=-1 must be a place"):
        DeferredOrder(TrainingOrder(0, 4), TrainingOrder(0, 4), start=-1)
