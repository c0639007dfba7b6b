"""Bootstrap intervals against SciPy's, and against the truth that they are to cover."""

import functools

import numpy as np
import pytest
import scipy.stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import recall_score

from p10k_jax.evaluation import intervals
from p10k_jax.evaluation.calibration import expected_calibration_error
from p10k_jax.evaluation.intervals import bootstrap, mean_per_class, ratio
from tests.tables import random_table


def top1(right):
    return ratio(right, np.ones(len(right)))


def macro_recall(labels, predicted):
    return recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)


def calibration_error(right, confidence):
    """From scikit-learn's reliability curve and SciPy's counts."""
    accuracy, mean = calibration_curve(right, confidence, n_bins=15, strategy="uniform")
    counts = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    return np.sum(counts[counts > 0] * np.abs(accuracy - mean)) / len(right)


@pytest.mark.parametrize("figure", ["top1", "part", "mean_per_class", "ece"])
def test_equals_scipy(figure):
    """Up to chance: an end of B resamples has a standard error of 2.7 s / sqrt(B), s the bootstrap standard error."""
    _, columns = random_table(n=400, classes=12)
    labels, predicted = columns["label"], columns["ranked"][:, 0]
    right, part, confidence = labels == predicted, columns["usage"] == "public", columns["scores"][:, 0].astype(float)
    ours, samples, theirs = {
        "top1": (top1(right), (right,), lambda right: np.mean(right)),
        "part": (ratio(right & part, part), (right, part), lambda right, part: np.mean(right[part])),
        "mean_per_class": (mean_per_class(right, labels), (labels, predicted), macro_recall),
        "ece": (expected_calibration_error(right, confidence), (right, confidence), calibration_error),
    }[figure]
    resamples, level = 3000, 0.95
    expected = scipy.stats.bootstrap(
        samples,
        theirs,
        paired=True,
        vectorized=False,
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    assert ours.value() == pytest.approx(theirs(*samples), rel=1e-12)
    found = bootstrap({figure: ours}, resamples=resamples, level=level)[figure]
    chance = 4 * np.sqrt(2) * 2.7 * expected.standard_error / np.sqrt(resamples)
    np.testing.assert_allclose(found, expected.confidence_interval, atol=chance, rtol=0)


def test_the_level_is_that_of_the_resamples():
    right = np.random.default_rng(0).random(5000) < 0.3
    error = scipy.stats.norm(right.mean(), np.sqrt(right.mean() * (1 - right.mean()) / 5000))
    for level in (0.5, 0.9):
        low, high = bootstrap({"top1": top1(right)}, level=level)["top1"]
        np.testing.assert_allclose((low, high), error.interval(level), atol=4 * error.std() * 2.7 / np.sqrt(2000))


def test_covers_the_truth():
    """1,000 test sets of known truth: how many of their intervals hold it is binomial, of 0.95 but for the few tenths
    of a percent that 1,000 resamples and steps of 1/300 cost."""
    sets, images = 1000, 300
    random = np.random.default_rng(0)
    share, chance = np.linspace(1, 3, 8) / 16, np.linspace(0.4, 0.95, 8)
    in_part = np.array([True, False] * 4)
    truth = {
        "top1": share @ chance,
        "part": (share @ (chance * in_part)) / (share @ in_part),
        "mean_per_class": chance.mean(),
    }
    covered = dict.fromkeys(truth, 0)
    for number in range(sets):
        labels = random.choice(8, images, p=share)
        right, part = random.random(images) < chance[labels], in_part[labels]
        statistics = {
            "top1": top1(right),
            "part": ratio(right & part, part),
            "mean_per_class": mean_per_class(right, labels),
        }
        for name, (low, high) in bootstrap(statistics, resamples=1000, seed=number).items():
            covered[name] += low <= truth[name] <= high
    shares = {name: count / sets for name, count in covered.items()}
    chance_of_share = 3 * np.sqrt(0.95 * 0.05 / sets)  # 0.021
    assert all(abs(share - 0.95) < chance_of_share for share in shares.values()), shares


def test_the_same_seed_gives_the_same_whatever_the_chunks_and_the_company(monkeypatch):
    _, columns = random_table(n=150)
    labels = columns["label"]
    right = labels == columns["ranked"][:, 0]
    draw = functools.partial(bootstrap, {"top1": top1(right), "mean": mean_per_class(right, labels)}, resamples=70)
    first = draw()
    assert draw() == first
    assert draw(seed=1) != first
    assert bootstrap({"mean": mean_per_class(right, labels)}, resamples=70)["mean"] == first["mean"]
    monkeypatch.setattr(intervals, "_ELEMENTS", 450)
    assert draw() == first


def test_one_image():
    one = np.array([True])
    assert bootstrap({"top1": top1(one), "mean": mean_per_class(one, np.array([5]))}) == {
        "top1": (1.0, 1.0),
        "mean": (1.0, 1.0),
    }


def test_resamples_without_the_figure_are_left_out():
    right, rare = np.array([True, False, True, True]), np.array([False, True, False, False])
    never = np.zeros(4, bool)
    found = bootstrap({"rare": ratio(right & rare, rare), "never": ratio(never, never)})
    assert found["rare"] == (0.0, 0.0)
    assert np.isnan(found["never"]).all()
    assert bootstrap({}) == {}


@pytest.mark.parametrize(("images", "settings"), [(0, {}), (3, {"resamples": 0}), (3, {"level": 95})])
def test_refusals(images, settings):
    with pytest.raises(ValueError, match="all must be above 0"):
        bootstrap({"top1": top1(np.ones(images, bool))}, **settings)
