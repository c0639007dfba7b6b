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


def test_bad_settings():
    with pytest.raises(ValueError, match=r"Unknown loss 'hinge'. Known: softmax"):
        make_loss("hinge")
    with pytest.raises(ValueError, match=r"label_smoothing=1\.0 is outside"):
        make_loss("softmax", label_smoothing=1.0)
