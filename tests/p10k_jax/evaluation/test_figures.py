"""Every figure against scikit-learn or NumPy on the columns of the table."""

import collections
import dataclasses
import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from p10k_jax.data.classes import Classes
from p10k_jax.evaluation.figures import figures
from p10k_jax.evaluation.metrics import metrics
from p10k_jax.evaluation.summary import summary
from tests.tables import random_table, table

CLASSES = Classes(
    names=tuple(f"ü{label}" for label in range(40)),
    groups=np.arange(40) % 7,
    group_names=tuple(f"g{label % 7}" for label in range(40)),
    train_images=np.arange(40) - 2 * (np.arange(40) == 39),  # 0 to 38, so that every bound is met
)


@pytest.fixture(scope="module")
def evaluated():
    predictions, columns = random_table()
    return figures(predictions, CLASSES, resamples=200), predictions, columns


def test_holds_the_metrics(evaluated):
    found, predictions, _ = evaluated
    assert metrics(predictions).items() <= found.items()


def test_mean_per_class_is_balanced_accuracy(evaluated):
    found, _, columns = evaluated
    labels, predicted = columns["label"], columns["ranked"][:, 0]
    assert set(predicted) <= set(labels), "else scikit-learn counts classes that the split does not have"
    assert found["mean_per_class"] == pytest.approx(balanced_accuracy_score(labels, predicted), rel=1e-12)
    assert abs(found["mean_per_class"] - found["top1"]) > 1e-4, "the table must tell them apart"


def test_calibration_is_that_of_scikit_learn(evaluated):
    found, _, columns = evaluated
    right, confidence = columns["label"] == columns["ranked"][:, 0], columns["scores"][:, 0].astype(np.float64)
    rows = found["calibration"]
    np.testing.assert_allclose([[row["from"], row["to"]] for row in rows], [[b / 15, (b + 1) / 15] for b in range(15)])
    counts = np.histogram(confidence, bins=np.linspace(0, 1, 16))[0]
    assert [row["count"] for row in rows] == counts.tolist()
    accuracy, mean = calibration_curve(right, confidence, n_bins=15, strategy="uniform")
    filled = [row for row in rows if row["count"]]
    np.testing.assert_allclose([row["accuracy"] for row in filled], accuracy, rtol=1e-12)
    np.testing.assert_allclose([row["confidence"] for row in filled], mean, rtol=1e-12)
    empty = [row for row in rows if not row["count"]]
    assert empty, "the table must have an empty bin"
    assert all(row["accuracy"] is None and row["confidence"] is None for row in empty)
    error = np.sum(counts[counts > 0] / len(right) * np.abs(accuracy - mean))
    assert found["ece"] == pytest.approx(error, rel=1e-12)


def test_scores_on_an_edge_belong_to_the_bin_below():
    scores = np.array([[0.0], [1.0], [np.nextafter(np.float32(1 / 5), np.float32(0))], [0.8]], np.float32)
    rows = figures(table([0] * 4, [[0]] * 4, [""] * 4, scores=scores), resamples=1)["calibration"]
    assert {number: row["count"] for number, row in enumerate(rows) if row["count"]} == {0: 1, 14: 1, 2: 1, 12: 1}
    rows = figures(table([0], [[0]], [""], scores=[[0.0]]), resamples=1)["calibration"]
    right, confidence = [1, 0], [0.0, 1.0]
    assert calibration_curve(right, confidence, n_bins=15)[1].tolist() == [0.0, 1.0]
    assert rows[0] | {"to": 0} == {"from": 0.0, "to": 0, "count": 1, "confidence": 0.0, "accuracy": 1.0}


def test_confusions_are_the_largest_cells_off_the_diagonal(evaluated):
    found, _, columns = evaluated
    matrix = confusion_matrix(columns["label"], columns["ranked"][:, 0], labels=np.arange(40))
    cells = [(-matrix[i, j], i, j) for i in range(40) for j in range(40) if i != j and matrix[i, j]]
    expected = [
        {
            "label": label,
            "label_name": f"ü{label}",
            "predicted": predicted,
            "predicted_name": f"ü{predicted}",
            "count": -count,
            "of": matrix[label].sum(),
        }
        for count, label, predicted in sorted(cells)[:50]
    ]
    assert len(cells) > 50
    assert found["confusions"] == expected
    counts = collections.Counter(row["count"] for row in expected)
    assert max(counts.values()) > 1, "the table must have ties"


def test_frequency_bands(evaluated):
    found, _, columns = evaluated
    labels, predicted = columns["label"], columns["ranked"][:, 0]
    seen = CLASSES.train_images[labels]
    bands = {"few": seen <= 5, "medium": (seen > 5) & (seen <= 20), "many": seen > 20}
    assert list(found["by_frequency"]) == list(bands)
    for name, here in bands.items():
        row = dict(found["by_frequency"][name])
        low, high = row.pop("interval")
        assert row == {
            "train_images": {"few": [0, 5], "medium": [6, 20], "many": [21, None]}[name],
            "classes": len(set(labels[here])),
            "count": here.sum(),
            "top1": accuracy_score(labels[here], predicted[here]),
        }
        error = np.sqrt(row["top1"] * (1 - row["top1"]) / row["count"])
        assert low < row["top1"] < high
        assert high - low == pytest.approx(3.92 * error, rel=0.4)


def test_bands_without_images_are_left_out():
    classes = dataclasses.replace(CLASSES, train_images=np.where(np.arange(40) < 2, 6, 21))
    found = figures(table([0, 1, 1], [[0], [0], [1]], [""] * 3), classes)
    assert list(found["by_frequency"]) == ["medium"]
    assert found["by_frequency"]["medium"]["classes"] == 2
    assert "by_frequency" not in figures(table([0], [[0]], [""]), dataclasses.replace(CLASSES, train_images=None))


def test_groups(evaluated):
    found, predictions, columns = evaluated
    labels, predicted, groups = columns["label"], columns["ranked"][:, 0], columns["group"]
    assert found["by_group"] == [
        {
            "group": group,
            "name": f"g{group}",
            "classes": len(set(labels[groups == group])),
            "count": (groups == group).sum(),
            "top1": accuracy_score(labels[groups == group], predicted[groups == group]),
        }
        for group in range(7)
    ]
    assert {row["name"] for row in figures(predictions, resamples=1)["by_group"]} == {""}


def test_every_overall_figure_has_an_interval(evaluated):
    found, *_ = evaluated
    assert set(found["intervals"]) == {"top1", "top5", "top1_private", "top1_public", "mean_per_class", "ece"}
    for name, (low, high) in found["intervals"].items():
        assert low < high
        assert name == "ece" or low < found[name] < high


def plain(value):
    if isinstance(value, dict):
        return all(type(key) is str and plain(inner) for key, inner in value.items())
    return all(map(plain, value)) if type(value) is list else type(value) in (int, float, str, type(None))


CASES = {
    "one image": ([3], [[1, 3, 2, 0, 4]], [""]),
    "one class": ([0, 0], [[0], [0]], ["", ""]),
    "all right": ([0, 1, 2], [[0, 1, 2], [1, 0, 2], [2, 1, 0]], ["public", "private", "public"]),
    "all wrong": ([0, 1, 2], [[1, 0, 2], [0, 2, 1], [0, 1, 2]], [""] * 3),
    "no scores": ([0, 1], [[0, 1], [0, 1]], ["", ""], None, [[np.nan] * 2] * 2),
}


@pytest.mark.parametrize("classes", [None, CLASSES])
@pytest.mark.parametrize("case", CASES)
def test_edge_cases_are_plain_json(case, classes):
    predictions = table(*CASES[case])
    found = figures(predictions, classes)
    assert plain(found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    labels, first = np.array(CASES[case][0]), np.array(CASES[case][1])[:, 0]
    assert found["mean_per_class"] == recall_score(
        labels, first, labels=np.unique(labels), average="macro", zero_division=0
    )
    assert len(found["confusions"]) == len(set(zip(labels[labels != first], first[labels != first], strict=True)))
    assert found["intervals"]["top1"] == ([0.0, 1.0] if case == "no scores" else [found["top1"]] * 2)
    assert "by_group" not in found
    assert ("by_frequency" in found) == (classes is not None)
    if case == "no scores":
        assert (found["ece"], found["intervals"]["ece"]) == (None, [None, None])
    assert summary(found).splitlines()[1].startswith("  top-1 ")


def test_the_summary_names_what_counts(evaluated):
    found, *_ = evaluated
    text = summary(found)
    lines = text.splitlines()
    for name, key in [("top-1", "top1"), ("mean per class", "mean_per_class"), ("top-1, public", "top1_public")]:
        low, high = found["intervals"][key]
        [line] = [line for line in lines if line.strip().startswith(f"{name}  ")]
        assert f"{found[key]:.4f}  {low:.4f} to {high:.4f}" in line
    assert "classes with 6 to 20 training pictures" in text
    worst = found["confusions"]
    for row in worst[:3]:
        assert f"{row['count']:,} of {row['of']:,}" in text
        assert row["label_name"] in text
    assert sum("taken for" in line for line in lines) == 3
    assert "taken for class 0" in summary(figures(table([1], [[0]], [""])))


def test_classes_of_another_dataset_are_refused():
    with pytest.raises(ValueError, match="has label 40, but there are 40 classes"):
        figures(table([0], [[40]], [""]), CLASSES)
    with pytest.raises(ValueError, match="without rows"):
        figures(table([0], [[0]], [""]).slice(1), CLASSES)
