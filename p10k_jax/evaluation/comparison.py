"""Whether one recipe is better than another: from their predictions tables to a difference, its interval and a p-value.

All functions are pure and take the tables of `p10k_jax.evaluation.predictions`, which are sorted by name.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.stats
from jaxtyping import Bool, Float

SIGNIFICANT = 0.05


class McNemar(NamedTuple):
    """An exact McNemar test.

    Attributes:
        only_first, only_second: Images that the one gets right and the other does not.
        p: Two-sided.
    """

    only_first: int
    only_second: int
    p: float


class Comparison(NamedTuple):
    """How much better `other` is than `base`.

    Attributes:
        base, other: Top-1, the mean over the runs of a side, fractions.
        difference: `other - base`.
        interval: Of the difference, 95 %.
        p: Two-sided, of there being no difference.
        method: How interval and p were found: `one run a side`, `seeds paired` or `seeds apart`.
    """

    base: float
    other: float
    difference: float
    interval: tuple[float, float]
    p: float
    method: str


def right(table: pa.Table) -> Bool[np.ndarray, " images"]:
    """Whether the first of `top5_labels` is the label, an image each."""
    first = pc.list_element(table["top5_labels"].combine_chunks(), 0)
    return first.to_numpy(zero_copy_only=False) == table["label"].to_numpy()


def mcnemar(first: pa.Table, second: pa.Table) -> McNemar:
    """Exact McNemar test of two runs: of the images that one of them alone gets right, half would be the first's.

    It takes the two runs as they are: it knows nothing of how other seeds would come out (McNemar, Psychometrika 12,
    1947; Dietterich, Neural Computation 10, 1998).

    Raises:
        ValueError: tables of other images or labels.
    """
    check_same_images({"first": first, "second": second})
    return _mcnemar(right(first), right(second))


def _mcnemar(first: Bool[np.ndarray, " images"], second: Bool[np.ndarray, " images"]) -> McNemar:
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(b, c, float(scipy.stats.binomtest(b, b + c).pvalue) if b + c else 1.0)


def check_same_images(tables: Mapping[str, pa.Table]) -> None:
    """Raises ValueError, naming the first difference, unless all tables are of the same images and labels."""
    (first_name, first), *others = tables.items()
    if not first.num_rows:
        raise ValueError(f"{first_name} has no images.")
    for name, table in others:
        if table.num_rows != first.num_rows:
            raise ValueError(f"{name} has {table.num_rows:,} images, {first_name} has {first.num_rows:,}.")
        for column in ("name", "label"):
            if table[column].equals(first[column]):
                continue
            row = pc.index(pc.not_equal(table[column], first[column]), True).as_py()
            image = "" if column == "name" else f" of {first['name'][row].as_py()!r}"
            raise ValueError(
                f"{name} is of other images or labels than {first_name}: row {row:,} has the {column} "
                f"{table[column][row].as_py()!r}{image}, in {first_name} it is {first[column][row].as_py()!r}."
            )


def compare(
    base: Mapping[int, pa.Table], other: Mapping[int, pa.Table], *, resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Compares two recipes by the top-1 of their runs on the same images.

    With one run a side the interval is a paired bootstrap over images and p is McNemar's. Both take the two runs as
    they are.

    With several runs a side images and seeds are both a sample: another test set and other seeds would give another
    difference. Its variance is the sum of both parts, from the mean squares of a two-way layout, and the degrees of
    freedom are Hillis's; this is the test of studies in which several readers judge the same cases, with seeds as
    readers and images as cases (Obuchowski and Rockette, Communications in Statistics - Simulation and Computation 24,
    1995; degrees of freedom and unlike readers a side: Hillis, Statistics in Medicine 26, 2007 and 33, 2014). The
    interval is of the same distribution. See `bootstrap_interval` for why it is not a bootstrap.

    Args:
        base, other: Seed to table. Where both have the same three seeds or more, seeds are paired (a pair of pairs is
            one degree of freedom, which is too few). Where one side has a single run, its spread over seeds is taken to
            be the other's.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: no runs, or tables of other images or labels.
    """
    if not base or not other:
        raise ValueError("compare: give at least one run a side.")
    named = {f"base, seed {key}": table for key, table in base.items()}
    check_same_images(named | {f"other, seed {key}": table for key, table in other.items()})
    first, second = (np.stack([right(runs[key]) for key in sorted(runs)]) for runs in (base, other))
    tops = float(first.mean()), float(second.mean())
    difference = tops[1] - tops[0]
    paired = sorted(base) == sorted(other) and len(base) >= 3
    if len(first) == len(second) == 1:
        interval = bootstrap_interval(first, second, resamples=resamples, seed=seed)
        return Comparison(*tops, difference, interval, _mcnemar(first[0], second[0]).p, "one run a side")
    error, freedom = standard_error(first, second, paired=paired)
    half = error * float(scipy.stats.t.ppf(1 - SIGNIFICANT / 2, freedom))
    p = 2 * float(scipy.stats.t.sf(abs(difference) / error, freedom)) if error else float(difference == 0)
    method = "seeds paired" if paired else "seeds apart"
    return Comparison(*tops, difference, (difference - half, difference + half), p, method)


def top1_interval(runs: Mapping[int, pa.Table]) -> tuple[float, float]:
    """95 % interval of a recipe's top-1 over images and, with several runs, over seeds.

    With one run it is Wilson's (JASA 22, 1927), else that of `compare` with one recipe alone.

    Raises:
        ValueError: tables of other images or labels.
    """
    check_same_images({f"seed {key}": table for key, table in runs.items()})
    rows = np.stack([right(runs[key]) for key in sorted(runs)])
    if len(rows) == 1:
        low, high = scipy.stats.binomtest(int(rows.sum()), rows.size).proportion_ci(method="wilson")
        return float(low), float(high)
    over_images = float(rows.mean(axis=0).var(ddof=1)) / rows.shape[1] if rows.shape[1] > 1 else 0.0
    variance, freedom = _variance(over_images, [rows])
    half = variance**0.5 * float(scipy.stats.t.ppf(1 - SIGNIFICANT / 2, freedom))
    return max(0.0, float(rows.mean()) - half), min(1.0, float(rows.mean()) + half)


def standard_error(
    first: Bool[np.ndarray, "seeds images"], second: Bool[np.ndarray, "other_seeds images"], *, paired: bool
) -> tuple[float, float]:
    """Standard error of the difference of two recipes' mean accuracies, and its degrees of freedom.

    Images are always paired. With `d[s, i]` the difference of seed s on image i (`paired`), the variance is

        MS(seeds) / (S n) + max(MS(images) - MS(seeds x images), 0) / (S n)

    (Hillis 2007, eq. 6 with two tests), and for seeds apart the seeds' part is the sum of both sides', with one spread
    estimated from both. It is at least the variance over images of the runs as they are, which is a lower bound of it.

    Args:
        first, second: What each run gets right; at least three runs in all, two a side where they are paired.
        paired: Whether run s of one side belongs to run s of the other.
    """
    images = first.shape[1]
    over_images = float((second.mean(axis=0) - first.mean(axis=0)).var(ddof=1)) / images if images > 1 else 0.0
    sides = [second.astype(np.int8) - first.astype(np.int8)] if paired else [first, second]
    variance, freedom = _variance(over_images, sides)
    return variance**0.5, freedom


def _variance(over_images: float, sides: list[np.ndarray]) -> tuple[float, float]:
    images = sides[0].shape[1]
    several = [side for side in sides if len(side) > 1]
    freedom = sum(len(side) - 1 for side in several)
    spread = sum((len(side) - 1) * side.mean(axis=1).var(ddof=1) for side in several) / freedom
    residual = sum(_residual_squares(side) for side in several) / (freedom * max(images - 1, 1))
    runs = sum(1 / len(side) for side in sides)
    over_seeds = float(spread) * runs
    shared = max(over_images - float(residual) * runs / images, 0.0)
    variance = max(over_seeds + shared, over_images)
    return variance, freedom * (variance / over_seeds) ** 2 if over_seeds else np.inf


def _residual_squares(values: Float[np.ndarray, "seeds images"]) -> float:
    """Sum of squares that are left when the means of rows and columns are taken out."""
    values = values.astype(np.float64)
    rows, columns, count = values.mean(axis=1), values.mean(axis=0), values.size
    total = (values**2).sum() - count * values.mean() ** 2
    return float(total - values.shape[1] * rows.var() * len(rows) - values.shape[0] * columns.var() * len(columns))


def bootstrap_interval(
    first: Bool[np.ndarray, "seeds images"],
    second: Bool[np.ndarray, "other_seeds images"],
    *,
    paired: bool = True,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of the difference of mean accuracies, from resampled images and resampled seeds.

    Images are resampled together on both sides, and seeds too where they are `paired` (Owen, The pigeonhole bootstrap,
    Annals of Applied Statistics 1, 2007). With one run a side only images are resampled.

    Three seeds make too narrow an interval: their resamples hold no spread that the three do not show.
    """
    rng = np.random.default_rng(seed)
    images = first.shape[1]
    # Images on which all runs do alike are interchangeable: how often each kind is drawn is all that counts.
    kinds, counts = np.unique(np.concatenate([first, second]), axis=1, return_counts=True)
    differences = []
    for size in _parts(resamples, 1 + 4_000_000 // len(counts)):
        drawn = rng.multinomial(images, counts / images, size=size) @ kinds.T.astype(np.float64) / images
        weights = rng.multinomial(len(first), np.full(len(first), 1 / len(first)), size=size) / len(first)
        others = weights
        if not paired:
            others = rng.multinomial(len(second), np.full(len(second), 1 / len(second)), size=size) / len(second)
        differences.append(
            (drawn[:, len(first) :] * others).sum(axis=1) - (drawn[:, : len(first)] * weights).sum(axis=1)
        )
    low, high = np.quantile(np.concatenate(differences), [SIGNIFICANT / 2, 1 - SIGNIFICANT / 2])
    return float(low), float(high)


def _parts(total: int, largest: int) -> list[int]:
    return [min(largest, total - start) for start in range(0, total, largest)]
