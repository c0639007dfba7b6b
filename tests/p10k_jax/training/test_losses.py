import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from p10k_jax.models.heads import CosineHead, Outputs
from p10k_jax.training.losses import make_loss, make_objective

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


COUNTS = np.array([50, 3, 0, 7, 40])
COSINES = np.tanh(RANDOM.randn(9, 5)).astype(np.float32)
COSINES[0] = [1, -1, 1, -1, 0]
COSINES[1, LABELS[1]], COSINES[2, LABELS[2]] = -0.999, 1.0


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_sigmoid_loss_is_the_sum_of_binary_cross_entropies(label_smoothing):
    targets = (1 - label_smoothing) * np.eye(5)[LABELS] + label_smoothing / 5
    probabilities = expit(LOGITS.astype(np.float64))
    expected = -(targets * np.log(probabilities) + (1 - targets) * np.log(1 - probabilities)).sum(1)
    ours = make_loss("sigmoid", label_smoothing=label_smoothing)(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_focal_loss_follows_its_definition(gamma, label_smoothing):
    loss = make_loss("focal", focal_gamma=gamma, label_smoothing=label_smoothing)
    probabilities = softmax(LOGITS.astype(np.float64), axis=1)
    targets = (1 - label_smoothing) * np.eye(5)[LABELS] + label_smoothing / 5
    expected = -(targets * (1 - probabilities) ** gamma * np.log(probabilities)).sum(1)
    np.testing.assert_allclose(loss(jnp.asarray(LOGITS), jnp.asarray(LABELS)), expected, rtol=1e-4, atol=1e-6)
    sure = jnp.asarray([[60.0, 0.0, 0.0, 0.0, 0.0]])
    assert bool(jnp.isfinite(jax.grad(lambda logits: loss(logits, jnp.array([0])).sum())(sure)).all())


@pytest.mark.parametrize("by_frequency", [(), (0.5, 0.25, 0.05)])
@pytest.mark.parametrize("kind", ["arcface", "cosface"])
def test_margins_follow_their_papers(kind, by_frequency):
    loss = make_loss(
        "softmax", margin=kind, margin_size=0.3, margin_by_frequency=by_frequency, scale=16.0, class_counts=COUNTS
    )
    margins = 0.5 * np.array([50, 3, 1, 7, 40.0]) ** -0.25 + 0.05 if by_frequency else np.full(5, 0.3)
    moved = COSINES.astype(np.float64)
    for row, label in enumerate(LABELS):
        margin = margins[label]
        if kind == "cosface":
            moved[row, label] -= margin
        else:
            angle = np.arccos(moved[row, label])
            over = angle + margin > np.pi
            moved[row, label] = np.cos(angle) - margin * np.sin(margin) if over else np.cos(angle + margin)
    expected = -log_softmax(16 * moved, axis=1)[np.arange(9), LABELS]
    ours = loss(16 * jnp.asarray(COSINES), jnp.asarray(LABELS))
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)
    gradient = jax.grad(lambda cosines: loss(16 * cosines, jnp.asarray(LABELS)).sum())(jnp.asarray(COSINES))
    assert bool(jnp.isfinite(gradient).all()), "also at cosines of 1 and -1"


@pytest.mark.parametrize("subcentres", [1, 3])
@pytest.mark.parametrize("kind", ["arcface", "cosface"])
def test_margins_hold_for_all_of_products10k_on_a_bfloat16_trunk(kind, subcentres):
    classes, random = 9_691, np.random.RandomState(0)
    loss = make_loss("softmax", margin=kind, margin_size=0.5, scale=64.0, class_counts=np.full(classes, 15))
    head = CosineHead(32, classes, subcentres=subcentres, scale=64.0, rngs=nnx.Rngs(0))
    labels = jnp.asarray(random.randint(0, classes, 8))
    for size in (1e-30, 1.0, 1e30):  # what a trunk in bfloat16 can give
        features = jnp.asarray(size * random.randn(8, 32), jnp.bfloat16)
        value, gradients = jax.value_and_grad(
            lambda features, head: loss(head(features.astype(jnp.float32)), labels).mean(), argnums=(0, 1)
        )(features, head)
        assert 0 < float(value) < 200
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_class_weights_are_those_of_scikit_learn(power):
    loss = make_loss("softmax", class_weight_power=power, class_counts=np.array([50, 3, 1, 7, 40]))
    labels = np.repeat(np.arange(5), [50, 3, 1, 7, 40])
    expected = compute_class_weight("balanced", classes=np.arange(5), y=labels) ** power
    expected = expected / expected[labels].mean()
    plain = make_loss("softmax")(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_allclose(loss(jnp.asarray(LOGITS), jnp.asarray(LABELS)), plain * expected[LABELS], rtol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_the_loss_of_a_mixed_target_is_the_mean_of_both_losses(name):
    loss, weight = make_loss(name, label_smoothing=0.1), 0.3
    others = (LABELS + 1) % 5
    targets = 0.9 * (weight * np.eye(5)[LABELS] + (1 - weight) * np.eye(5)[others]) + 0.1 / 5
    logits = LOGITS.astype(np.float64)
    expected = {
        "softmax": -(targets * log_softmax(logits, axis=1)).sum(1),
        "sigmoid": -(targets * log_expit(logits) + (1 - targets) * log_expit(-logits)).sum(1),
    }[name]
    both = [loss(jnp.asarray(LOGITS), jnp.asarray(labels)) for labels in (LABELS, others)]
    np.testing.assert_allclose(weight * both[0] + (1 - weight) * both[1], expected, rtol=1e-5)


def test_objective_adds_the_groups_share():
    groups, group_logits = RANDOM.randint(0, 3, 9), RANDOM.randn(9, 3).astype(np.float32)
    outputs = Outputs(jnp.asarray(LOGITS), jnp.zeros((9, 2)), jnp.asarray(group_logits))
    objective = make_objective(make_loss("softmax"), group_weight=0.25)
    expected = -log_softmax(LOGITS, axis=1)[np.arange(9), LABELS]
    expected = expected - 0.25 * log_softmax(group_logits, axis=1)[np.arange(9), groups]
    np.testing.assert_allclose(objective(outputs, jnp.asarray(LABELS), jnp.asarray(groups)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"logit_adjustment": -1.0}, r"loss\.logit_adjustment=-1\.0 is negative"),
        ({"logit_adjustment": 1.0}, r"logit_adjustment=1\.0 needs class_counts"),
        ({"class_weight_power": 1.0}, r"class_weight_power=1\.0 needs class_counts"),
        ({"name": "hinge"}, r"Unknown loss 'hinge'\. Known: softmax, sigmoid, focal"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1\.0 is outside"),
        ({"name": "focal", "focal_gamma": -1.0}, r"focal_gamma=-1\.0 is negative"),
        ({"name": "sigmoid", "logit_adjustment": 1.0, "class_counts": COUNTS}, r"is for a softmax"),
        ({"margin": "arcface"}, r"margin='arcface' needs head\.name='cosine'"),
        ({"margin_by_frequency": (1.0, 0.5, 0.1)}, r"margin_by_frequency=\(1\.0, 0\.5, 0\.1\) needs loss\.margin"),
        ({"margin": "circle", "scale": 1.0}, r"margin='circle' is unknown; known: arcface, cosface"),
        ({"margin": "arcface", "scale": 1.0, "margin_size": 2.0, "class_counts": COUNTS}, r"margins from 2 to 2"),
        ({"margin": "arcface", "scale": 1.0, "margin_by_frequency": (1.0,), "class_counts": COUNTS}, r"\(a, b, c\)"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        make_loss(**{"name": "softmax"} | settings)


def test_a_negative_group_weight_is_refused():
    with pytest.raises(ValueError, match=r"group_weight=-1\.0"):
        make_objective(make_loss("softmax"), group_weight=-1.0)
