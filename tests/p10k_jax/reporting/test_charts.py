"""Charts put what they are given where it belongs; read back from the SVG."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from p10k_jax.reporting import charts
from p10k_jax.reporting.charts import Bar, Point, Series


def parsed(markup):
    return ET.fromstring(str(markup))


def texts(markup, cls):
    return [node.text for node in parsed(markup).iter("text") if cls in node.get("class", "").split()]


def straight(at, values):
    """The scale that maps values to places, by least squares; raises if it is not straight."""
    slope, offset = np.polyfit(values, at, 1)
    np.testing.assert_allclose(np.asarray(values) * slope + offset, at, atol=0.11)  # drawn to a tenth of a pixel
    return slope


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.1234, "0.123"),
        (3e-4, "3e-4"),
        (1.25e-5, "1.25e-5"),
        (1234.4, "1,234"),
        (2e6, "2,000,000"),
        (-5, "-5"),
    ],
)
def test_plain(value, text):
    assert charts.plain(value) == text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.61, 0.93), (-3, 12), (1e-6, 3e-4), (0, 141_931), (5, 5)])
def test_ticks_are_round_and_within(low, high):
    found = charts.ticks(low, high)
    assert 1 <= len(found) <= 8
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in found)
    assert all(float(f"{tick:.3g}") == pytest.approx(tick) for tick in found)


def test_a_line_goes_through_its_points():
    x, y = [1, 2, 5, 9, 10], [0.1, 0.4, float("nan"), 0.2, 0.9]
    figure = parsed(charts.line_chart([Series("a", x, y), Series("b", x, y[::-1])], title="t", x_label="step"))
    told = json.loads(figure.find("svg").get("data-series"))
    assert [line["name"] for line in told] == ["a", "b"]
    points = np.array([point[:2] for point in told[0]["points"]])
    kept = [0, 1, 3, 4]
    assert straight(points[:, 0], np.array(x)[kept]) > 0
    assert straight(points[:, 1], np.array(y)[kept]) < 0, "up is more"
    drawn = next(part for part in figure.iter("path") if "s0" in part.get("class")).get("d")
    pairs = np.array([pair.split() for pair in drawn.removeprefix("M").split("L")], float)
    np.testing.assert_allclose(pairs, points)
    assert [point[2:] for point in told[0]["points"]] == [["1", "0.1"], ["2", "0.4"], ["9", "0.2"], ["10", "0.9"]]
    assert [node.tail for node in figure.iter("i")] == ["a", "b"]


def test_long_lines_are_thinned_to_means():
    figure = parsed(charts.line_chart([Series("", range(90_000), np.arange(90_000) % 2)], title="t", x_label="x"))
    told = json.loads(figure.find("svg").get("data-series"))
    assert len(told[0]["points"]) == 300
    assert {point[3] for point in told[0]["points"]} == {"0.5"}


def test_smoothing_is_the_unbiased_moving_average():
    y = np.random.RandomState(0).rand(50)
    weights = np.array([[0.9 ** (i - j) if j <= i else 0.0 for j in range(50)] for i in range(50)])
    np.testing.assert_allclose(charts.smoothed(y, over=10), weights @ y / weights.sum(axis=1))
    assert charts.smoothed([3.0, 3.0], over=5) == pytest.approx([3.0, 3.0])


def test_bars_are_as_long_as_their_values():
    bars = [Bar("a", 0.25, 0.2, 0.3), Bar("b", 0.5), Bar("c", 1.0, note="3 images")]
    figure = charts.bar_chart(bars, title="t", limits=(0.0, 1.0))
    widths = [float(node.get("width")) for node in parsed(figure).iter("rect")]
    np.testing.assert_allclose(np.array(widths) / widths[2], [0.25, 0.5, 1.0], atol=1e-3)
    assert texts(figure, "value") == ["25 %", "50 %", "100 %"]
    (interval,) = (node for node in parsed(figure).iter("line") if node.get("class") == "interval")
    (zero,) = {node.get("x") for node in parsed(figure).iter("rect")}
    ends = [(float(interval.get(end)) - float(zero)) / widths[2] for end in ("x1", "x2")]
    np.testing.assert_allclose(ends, [0.2, 0.3], atol=1e-3)


def test_seeds_are_dots():
    figure = parsed(charts.bar_chart([Bar("a", 0.5, dots=(0.4, 0.6)), Bar("b", 0.7)], title="t", dots=True))
    seeds = [float(node.get("cx")) for node in figure.iter("circle") if node.get("class") == "seed"]
    means = [float(node.get("cx")) for node in figure.iter("circle") if node.get("class") == "mean"]
    straight([*seeds, *means], [0.4, 0.6, 0.5, 0.7])


def test_reliability():
    bins = [
        {"from": 0.0, "to": 0.5, "count": 0, "confidence": None, "accuracy": None},
        {"from": 0.5, "to": 1.0, "count": 4, "confidence": 0.75, "accuracy": 0.5},
    ]
    figure = parsed(charts.reliability_chart(bins, title="t"))
    (hint,) = (node.text for node in figure.iter("title"))
    assert hint == "confidence 75 %, accuracy 50 %, 4 images"
    assert [float(node.get("height")) > 100 for node in figure.iter("rect")] == [False, True]
    assert charts.reliability_chart([bins[0]], title="t") == ""
    diverged = {"from": 0.5, "to": 1.0, "count": 4, "confidence": None, "accuracy": 0.25}
    assert not list(parsed(charts.reliability_chart([diverged], title="t")).iter("circle"))


def test_scatter_on_a_logarithmic_axis():
    points = [Point("a", 100.0, 0.3), Point("b", 1.0, 0.1), Point("c", 10.0, 0.2)]
    figure = parsed(charts.scatter_chart(points, title="t", x_label="GFLOPs", log_x=True))
    places = [float(node.get("cx")) for node in figure.iter("circle")]
    assert straight(places, [0, 1, 2]) > 0
    assert next(node.text for node in figure.iter("title")) == "b: GFLOPs 1, 10 %"


@pytest.mark.parametrize(
    "chart",
    [
        lambda name: charts.line_chart([Series(name, [1, 2], [1, 2]), Series("b", [1], [1])], title=name, x_label=name),
        lambda name: charts.bar_chart([Bar(name, 1.0, note=name)], title=name),
        lambda name: charts.scatter_chart([Point(name, 1.0, 1.0)], title=name, x_label=name),
    ],
)
def test_names_are_shown_and_not_run(chart):
    name = "<script>\"&'</script>"
    markup = chart(name)
    assert "<script" not in str(markup)
    figure = parsed(markup)  # it parses: nothing broke out of an attribute
    assert figure.find("figcaption").text == name
    assert figure.find("svg").get("aria-label") == name


def test_nothing_to_show():
    assert charts.line_chart([Series("a", [], [])], title="t", x_label="x") == ""
    assert charts.bar_chart([], title="t") == ""
    assert charts.scatter_chart([], title="t", x_label="x") == ""
