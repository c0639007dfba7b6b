import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from p10k_jax.training.losses import make_loss

RANDOM = np.random.RandomState(0)
LOGITS = RANDOM.randn(9, 5).astype(np.float32) * 3
LABELS = RANDOM.randint(0, 5, 9)


def test_cross_entropy_equals_scikit_learn():
    ours = make_loss("softmax")(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    probabilities = np.exp(log_softmax(LOGITS.astype(np.float64), axis=1))
    np.testing.assert_allclose(ours.mean(), log_loss(LABELS, probabilities, labels=range(5)), rtol=1e-6)


def test_label_smoothing_is_cross_entropy_with_smoothed_targets():
    ours = make_loss("softmax", label_smoothing=0.2)(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    targets = 0.8 * np.eye(5)[LABELS] + 0.2 / 5
    np.testing.assert_allclose(ours, -(targets * log_softmax(LOGITS.astype(np.float64), axis=1)).sum(1), rtol=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_logit_adjustment_is_cross_entropy_of_shifted_logits(label_smoothing):
    counts = np.array([50, 3, 0, 7, 40])  # a class without training images counts as one with a single image
    loss = make_loss("softmax", label_smoothing=label_smoothing, logit_adjustment=0.5, class_counts=counts)
    shifted = LOGITS.astype(np.float64) + 0.5 * np.log(np.array([50, 3, 1, 7, 40]) / 101)
    targets = (1 - label_smoothing) * np.eye(5)[LABELS] + label_smoothing / 5
    expected = -(targets * log_softmax(shifted, axis=1)).sum(1)
    np.testing.assert_allclose(loss(jnp.asarray(LOGITS), jnp.asarray(LABELS)), expected, rtol=1e-5)


def test_logit_adjustment_finds_what_is_best_for_the_mean_over_classes():
    # One feature that says nothing: the best logits for plain softmax are the log frequencies, for a full adjustment 0.
    labels = jnp.asarray([0] * 90 + [1] * 10)
    for strength, best in ((0.0, np.log([0.9, 0.1])), (1.0, np.zeros(2))):
        loss = make_loss("softmax", logit_adjustment=strength, class_counts=np.array([90, 10]))
        gradient = jax.grad(lambda logits: loss(jnp.tile(logits, (100, 1)), labels).mean())(jnp.asarray(best))  # noqa: B023
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_bad_settings():
    with pytest.raises(ValueError, match=r"logit_adjustment=-1\.0 is negative"):
        make_loss("softmax", logit_adjustment=-1.0)
    with pytest.raises(ValueError, match=r"logit_adjustment=1\.0 needs class_counts"):
        make_loss("softmax", logit_adjustment=1.0)
    with pytest.raises(ValueError, match=r"Unknown loss 'hinge'. Known: softmax"):
        make_loss("hinge")
    with pytest.raises(ValueError, match=r"label_smoothing=1\.0 is outside"):
        make_loss("softmax", label_smoothing=1.0)
