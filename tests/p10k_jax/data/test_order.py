import numpy as np
import pytest

from p10k_jax.data.order import EvaluationOrder, epoch_permutation, training_indices


def test_every_epoch_holds_every_example_once_in_another_order():
    stream = training_indices(3, np.arange(3 * 11), 11).reshape(3, 11)
    for epoch in stream:
        assert sorted(epoch) == list(range(11))
    assert not np.array_equal(stream[0], stream[1])
    assert not np.array_equal(stream[0], training_indices(4, np.arange(11), 11))


def test_a_place_does_not_depend_on_what_else_is_asked():
    places = np.array([40, 2, 11, 10, 33])
    stream = training_indices(0, np.arange(44), 11)
    np.testing.assert_array_equal(training_indices(0, places, 11), stream[places])


def test_order_never_changes_between_versions():
    # Frozen: a change of these numbers would change the batches of runs that are resumed.
    assert epoch_permutation(0, 0, 8).tolist() == FROZEN[0]
    assert epoch_permutation(1, 5, 8).tolist() == FROZEN[1]


FROZEN = [[6, 3, 5, 0, 7, 2, 1, 4], [5, 6, 2, 7, 3, 0, 1, 4]]


@pytest.mark.parametrize("batch_size", [1, 4, 5, 16])
def test_evaluation_counts_each_example_once(batch_size):
    steps = -(-10 // batch_size)
    indices, mask = EvaluationOrder(10)(np.arange(steps * batch_size))
    assert indices[mask].tolist() == list(range(10))
    assert mask.sum() == 10
    assert indices.max() == 9
