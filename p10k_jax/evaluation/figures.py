"""Every figure of an evaluation, out of its predictions table and nothing else."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from p10k_jax.data.classes import Classes
from p10k_jax.evaluation.calibration import calibration_bins, expected_calibration_error
from p10k_jax.evaluation.confusions import confusions
from p10k_jax.evaluation.intervals import RESAMPLES, Statistic, bootstrap, mean_per_class, ratio
from p10k_jax.evaluation.metrics import hits, metrics
from p10k_jax.evaluation.subsets import by_frequency, by_group, frequency_bands


def figures(
    table: pa.Table, classes: Classes | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """All that is reported of a predictions table, ready for JSON: plain numbers, None where a figure is undefined.

    It is a function of its arguments alone, so anybody can compute `eval/<split>/metrics.json` again from a workdir W:

        figures(read_predictions(W / "eval/test/predictions.parquet"), read_classes(W))

    Args:
        table: Of `p10k_jax.evaluation.predictions`.
        classes: Names, groups and training pictures of the classes; without them names are empty and there is no
            `by_frequency`.
        resamples: Of the bootstrap.
        seed: Of the bootstrap; the rest has no chance in it.

    Returns:
        What `metrics` gives, and
        `mean_per_class`, the mean over the split's classes of the top-1 in each (balanced accuracy);
        `ece`, the expected calibration error of the top-1 score, and `calibration`, its 15 bins;
        `intervals`, 95 % bootstrap intervals `[low, high]` of `top1`, `top5`, `top1_<usage>`, `mean_per_class`, `ece`;
        `by_frequency`, by band `few`, `medium`, `many` of training pictures, where these are known;
        `by_group`, where the split has more than one group;
        `confusions`, the 50 most frequent ordered pairs of label and wrong first prediction.

    Raises:
        ValueError: an empty table, or labels that `classes` does not have.
    """
    found = metrics(table)
    labels, predicted = table["label"].to_numpy(), pc.list_element(table["top5_labels"], 0).to_numpy()
    groups = table["group"].to_numpy()
    confidence = pc.list_element(table["top5_scores"], 0).to_numpy().astype(np.float64)
    right = labels == predicted
    if classes is not None:
        _check_labels(labels, predicted, len(classes.names))
    bands = {}
    if classes is not None and classes.train_images is not None:
        bands = frequency_bands(labels, classes.train_images)

    overall = _overall(table) | {
        "mean_per_class": mean_per_class(right, labels),
        "ece": expected_calibration_error(right, confidence),
    }
    in_bands = {name: _accuracy(right, here) for name, here in bands.items()}
    intervals = bootstrap(overall | in_bands, resamples=resamples, seed=seed)

    found |= {name: overall[name].value() for name in ("mean_per_class", "ece")}
    found["intervals"] = {name: intervals[name] for name in overall}
    if bands:
        rows = by_frequency(labels, right, bands)
        found["by_frequency"] = {name: row | {"interval": intervals[name]} for name, row in rows.items()}
    if len(np.unique(groups)) > 1:
        names = dict(zip(classes.groups.tolist(), classes.group_names, strict=True)) if classes is not None else {}
        found["by_group"] = by_group(labels, groups, right, names)
    found["calibration"] = calibration_bins(right, confidence)
    found["confusions"] = confusions(labels, predicted, classes.names if classes is not None else None)
    return _plain(found)


def _overall(table: pa.Table) -> dict[str, Statistic]:
    """The fractions that `metrics` gives, as statistics by the same names."""
    ranked = hits(table)
    first, everywhere = ranked[:, 0], np.ones(len(ranked), bool)
    statistics = {"top1": _accuracy(first, everywhere), "top5": _accuracy(ranked.any(axis=1), everywhere)}
    usages = np.array(table["usage"].to_pylist())
    return statistics | {f"top1_{usage}": _accuracy(first, usages == usage) for usage in sorted(set(usages) - {""})}


def _accuracy(right: Bool[np.ndarray, " n"], here: Bool[np.ndarray, " n"]) -> Statistic:
    return ratio(right & here, here)


def _check_labels(labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], count: int) -> None:
    worst = max(labels.max(), predicted.max())
    if worst >= count:
        raise ValueError(
            f"The predictions table has label {worst}, but there are {count} classes: "
            "give the classes of the dataset that the run was trained on."
        )


def _plain(value: Any) -> Any:
    """Dicts, lists and plain numbers; NaN, which JSON does not know, becomes None."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
