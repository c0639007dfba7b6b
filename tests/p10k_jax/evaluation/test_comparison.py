"""Differences between runs against SciPy and by hand; how often the tests cry wolf."""

import math
import time

import numpy as np
import pytest
import scipy.stats

from p10k_jax.evaluation.comparison import bootstrap_interval, compare, mcnemar, right, standard_error
from tests.p10k_jax.evaluation.tables import predictions as table


def pair(only_first, only_second, both=30, neither=20):
    counts = [only_first, only_second, both, neither]
    return np.repeat([1, 0, 1, 0], counts) > 0, np.repeat([0, 1, 1, 0], counts) > 0


def test_right_is_what_stands_first():
    expected = np.array([True, False, False, True])
    np.testing.assert_array_equal(right(table(expected)), expected)


@pytest.mark.parametrize(("b", "c"), [(3, 11), (11, 3), (0, 4), (6, 6), (40, 61), (0, 0)])
def test_mcnemar_is_the_binomial_sum(b, c):
    first, second = pair(b, c)
    result = mcnemar(table(first), table(second))
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert result[:2] == (b, c)
    assert result.p == pytest.approx(min(1.0, 2 * tail), rel=1e-12)


def test_one_run_a_side_against_scipys_paired_bootstrap():
    rng = np.random.default_rng(0)
    first = rng.random(800) < 0.7
    second = np.where(rng.random(800) < 0.1, rng.random(800) < 0.9, first)
    ours = compare({0: table(first)}, {0: table(second)}, resamples=20_000)
    oracle = scipy.stats.bootstrap(
        (second, first),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        **{"paired": True, "vectorized": True, "n_resamples": 20_000, "method": "percentile", "rng": 1},
    )
    low, high = oracle.confidence_interval
    assert ours.difference == second.mean() - first.mean()
    assert ours.interval == pytest.approx((low, high), abs=0.0013)  # the difference of two images: 1 / 800
    assert ours.p == mcnemar(table(first), table(second)).p
    assert ours.method == "one run a side"


def test_resampled_seeds_against_a_plain_loop():
    """The counting of kinds of images is the same as drawing images and seeds one by one."""
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 200)) < 0.6, rng.random((2, 200)) < 0.65
    for paired, other in ((False, second), (True, rng.random((3, 200)) < 0.65)):
        loop = []
        for _ in range(8000):
            image, seed = rng.integers(200, size=200), rng.integers(3, size=3)
            other_seed = seed if paired else rng.integers(len(other), size=len(other))
            loop.append(other[np.ix_(other_seed, image)].mean() - first[np.ix_(seed, image)].mean())
        ours = bootstrap_interval(first, other, paired=paired, resamples=8000)
        assert ours == pytest.approx(np.quantile(loop, [0.025, 0.975]), abs=0.004)


def test_paired_seeds_by_the_mean_squares_of_the_layout():
    """The textbook's analysis of variance, sum by sum."""
    rng = np.random.default_rng(0)
    lean = rng.standard_normal(60)
    first, second = (lean + rng.standard_normal((4, 60)) > 0 for _ in range(2))
    second |= lean > 0.5
    d = second.astype(float) - first
    grand, seeds, images = d.mean(), d.mean(axis=1), d.mean(axis=0)
    ms_seeds = 60 * sum((seeds - grand) ** 2) / 3
    ms_images = 4 * sum((images - grand) ** 2) / 59
    ms_both = sum((d[s, i] - seeds[s] - images[i] + grand) ** 2 for s in range(4) for i in range(60)) / (3 * 59)
    variance = (ms_seeds + max(ms_images - ms_both, 0)) / 240
    assert variance > ms_images / 240, "else the lower bound would be tested"
    error, freedom = standard_error(first, second, paired=True)
    assert error == pytest.approx(math.sqrt(variance))
    assert freedom == pytest.approx(variance**2 / ((ms_seeds / 240) ** 2 / 3))
    result = compare(*({seed: table(row) for seed, row in enumerate(side)} for side in (first, second)))
    expected = scipy.stats.t(freedom)
    assert result.method == "seeds paired"
    assert result.p == pytest.approx(2 * expected.sf(abs(grand) / error))
    assert result.interval == pytest.approx(expected.interval(0.95) * np.array(error) + grand)


# Of all images and of all seeds there is no difference; the runs differ by images that one recipe likes better, by
# seeds, and by chance: standard deviations against a spread of 1 between images.
SPREADS = {"seeds": (0.0, 0.1, 0.3), "images": (0.3, 0.0, 0.3), "both": (0.2, 0.02, 0.3), "chance": (0.0, 0.0, 0.5)}


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("seeds", [(3, 3), (5, 5), (2, 2), (1, 3)])
def test_where_there_is_no_difference_few_are_found(seeds, spread):
    by_image, by_seed, chance = SPREADS[spread]
    rng = np.random.default_rng(0)
    trials, found = 600, 0
    paired = seeds[0] == seeds[1] > 2

    for _ in range(trials):
        ease = rng.standard_normal(400) + 0.5
        sides = [
            ease
            + by_image * rng.standard_normal(400)
            + by_seed * rng.standard_normal((count, 1))
            + chance * rng.standard_normal((count, 400))
            > 0
            for count in seeds
        ]
        error, freedom = standard_error(*sides, paired=paired)
        difference = sides[1].mean() - sides[0].mean()
        found += 2 * scipy.stats.t.sf(abs(difference) / error, freedom) < 0.05
    # 5 % with 2.5 standard errors of 600 trials are 7.2 %.
    assert found / trials < 0.075


def test_a_difference_is_found():
    rng = np.random.default_rng(0)
    ease = rng.standard_normal(3000)
    runs = [{s: table(ease + 0.3 * rng.standard_normal(3000) > bar) for s in range(3)} for bar in (0, -0.15)]
    result = compare(*runs)
    assert result.p < 1e-3
    assert 0 < result.interval[0] < result.difference < result.interval[1]


def test_one_run_against_several_and_alike_runs():
    rng = np.random.default_rng(0)
    rows = rng.random((4, 500)) < 0.7
    runs = [table(row) for row in rows]
    result = compare({0: runs[0]}, dict(enumerate(runs[1:])))
    assert result.method == "seeds apart"
    assert result.interval[0] < result.difference < result.interval[1]
    same = compare(dict(enumerate(runs)), dict(enumerate(runs)))
    assert (same.difference, same.interval, same.p) == (0, (0, 0), 1.0)


def test_the_size_of_products10k_in_seconds():
    rng = np.random.default_rng(0)
    labels = rng.integers(9691, size=55_376)
    runs = [{s: table(rng.random(55_376) < 0.8, labels=labels) for s in range(5)} for _ in range(2)]
    began = time.process_time()
    compare(*runs)
    compare({0: runs[0][0]}, {0: runs[1][0]})
    assert time.process_time() - began < 5


def test_other_images_are_refused():
    first, names = np.arange(6) % 2 > 0, [f"{number:06d}.jpg" for number in range(6)]
    with pytest.raises(ValueError, match=r"other, seed 4 has 5 images, base, seed 0 has 6"):
        compare({0: table(first)}, {4: table(first[:5])})
    with pytest.raises(ValueError, match=r"row 3 has the name 'else.jpg', in base, seed 0 it is '000003.jpg'"):
        compare({0: table(first)}, {0: table(first, names=[*names[:3], "else.jpg", *names[4:]])})
    with pytest.raises(ValueError, match=r"row 2 has the label 5 of '000002.jpg', in first it is 2"):
        mcnemar(table(first), table(first, labels=np.array([0, 1, 5, 3, 4, 5])))
    with pytest.raises(ValueError, match="at least one run a side"):
        compare({}, {0: table(first)})
    with pytest.raises(ValueError, match="base, seed 0 has no images"):
        compare({0: table(first[:0])}, {0: table(first[:0])})
