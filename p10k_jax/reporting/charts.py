"""Charts as inline SVG: no script or network is needed to see them, colours come from the page's style sheet.

Every function returns `markupsafe.Markup`; what a caller gives as text is escaped. Charts are drawn near the size at
which they are shown, so that their text is readable on a phone.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 36
_COLOURS = 8
_MAX_POINTS = 300

Format = Callable[[float], str]


class Series(NamedTuple):
    """A line.

    Attributes:
        name: For the legend.
        x, y: As many of each; y that is not finite is left out.
        colour: Number of a colour; None: by its place.
        faint: Drawn thin, as the raw values behind a smoothed line.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int | None = None
    faint: bool = False


class Bar(NamedTuple):
    """A bar, or a row of dots.

    Attributes:
        label: Of the row.
        value: Where it ends.
        low, high: Of its interval; None without.
        note: Smaller, behind the label.
        dots: Single values, as of seeds.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    dots: tuple[float, ...] = ()


def plain(value: float) -> str:
    """Three significant digits: `0.123`, `12,345`, `3e-4`."""
    if abs(value) >= 1e3:
        return f"{value:,.0f}"
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def percent(value: float) -> str:
    """A fraction as percent, as many digits as tell."""
    return f"{100 * value:.3g} %"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that lie within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


class _Frame:
    """Scales and axes of a plot with numbers on both axes."""

    def __init__(
        self,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        *,
        x_label: str,
        x_format: Format,
        y_format: Format,
        log_x: bool = False,
    ):
        self.log_x = log_x
        self.x_range = tuple(math.log10(value) for value in x_range) if log_x else x_range
        self.x_range, self.y_range = _widened(self.x_range), _widened(y_range)
        self.parts: list[Markup] = []
        bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        for value in ticks(*self.y_range):
            y = self.y(value)
            self.parts.append(_tag("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid"))
            self.parts.append(_text(y_format(value), x=_LEFT - 6, y=y + 4, class_="tick end"))
        x_ticks = _log_ticks(*x_range) if log_x else ticks(*self.x_range)
        for value in x_ticks:
            self.parts.append(_text(x_format(value), x=self.x(value), y=bottom + 15, class_="tick middle"))
        self.parts.append(_tag("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
        self.parts.append(_text(x_label, x=(_LEFT + right) / 2, y=HEIGHT - 5, class_="label middle"))

    def x(self, value: float) -> float:
        low, high = self.x_range
        value = math.log10(value) if self.log_x else value
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)


def _widened(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    return (low, high) if high > low else (low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0))


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [10.0**power for power in powers if low <= 10.0**power <= high]
    if len(found) < 3:
        found = [m * 10.0**power for power in powers for m in (1, 2, 5) if low <= m * 10.0**power <= high]
    return found or [low, high]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_format: Format = plain,
    x_format: Format = plain,
    from_zero: bool = False,
) -> Markup:
    """Lines over one axis; the page's script shows the values under the pointer.

    Returns:
        A figure with its title and, for several named lines, a legend; empty where no line has a point.
    """
    kept = [line for line in map(_clean, series) if len(line.x)]
    if not kept:
        return Markup()
    lows, highs = zip(*(_bulk(line.y) for line in kept if not line.faint or len(kept) == 1), strict=True)
    low, high = (0.0 if from_zero else min(lows)), max(highs)
    margin = 0.06 * (high - low)
    x_range = (min(line.x[0] for line in kept), max(line.x[-1] for line in kept))
    y_range = (low if from_zero else low - margin, high + margin)
    frame = _Frame(x_range, y_range, x_label=x_label, x_format=x_format, y_format=y_format)
    told = []
    for number, line in enumerate(kept):
        colour = (number if line.colour is None else line.colour) % _COLOURS
        points = [(frame.x(x), min(max(frame.y(y), 0.0), HEIGHT)) for x, y in zip(line.x, line.y, strict=True)]
        if len(points) == 1:
            frame.parts.append(_tag("circle", cx=points[0][0], cy=points[0][1], r=3, class_=f"dot s{colour}"))
        drawn = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        frame.parts.append(_tag("path", d=drawn, class_=f"line s{colour}{' faint' if line.faint else ''}"))
        if not line.faint:
            values = [
                [round(x, 1), round(y, 1), x_format(at), y_format(value)]
                for (x, y), at, value in zip(points, line.x, line.y, strict=True)
            ]
            told.append({"name": line.name, "colour": colour, "points": values})
    named = [(line["name"], line["colour"]) for line in told if line["name"]] if len(told) > 1 else []
    return _figure(frame.parts, title, HEIGHT, legend=named, data=told)


def _clean(line: Series) -> Series:
    """Finite points in order, of many the means over equal stretches."""
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    if len(x) > _MAX_POINTS:
        parts = np.array_split(np.arange(len(x)), _MAX_POINTS)
        x, y = (np.array([values[part].mean() for part in parts]) for values in (x, y))
    return line._replace(x=x.tolist(), y=y.tolist())


def _bulk(values: Sequence[float]) -> tuple[float, float]:
    """Least and largest of the values, the largest 1 % of many left out: one spike must not flatten the rest."""
    array = np.asarray(values)
    return float(array.min()), float(np.quantile(array, 0.99) if len(array) >= 100 else array.max())


def smoothed(y: Sequence[float], *, over: int) -> list[float]:
    """Exponential moving average over about `over` values, unbiased at the start (Adam's correction)."""
    decay, mean, out = 1.0 - 1.0 / max(1, over), 0.0, []
    for number, value in enumerate(y, start=1):
        mean = decay * mean + (1.0 - decay) * value
        out.append(mean / (1.0 - decay**number))
    return out


def bar_chart(
    bars: Sequence[Bar],
    *,
    title: str,
    value_format: Format = percent,
    limits: tuple[float, float] | None = None,
    dots: bool = False,
    reference: float | None = None,
) -> Markup:
    """Rows from top to bottom, each a bar from zero, or with `dots` a mark with its single values.

    Args:
        bars: Rows; none gives nothing.
        title: Of the figure.
        value_format: For values.
        limits: Of the axis; else from 0 (with `dots`: from the least) to the largest.
        dots: A mark instead of a bar: for axes that do not start at zero.
        reference: A dashed line, as at the base of an ablation.
    """
    if not bars:
        return Markup()
    everything = [
        value for bar in bars for value in (bar.value, bar.low, bar.high, *bar.dots, reference) if value is not None
    ]
    low, high = limits or _widened((min(everything) if dots else 0.0, max(everything)))
    if dots and not limits:
        low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    left, right, row = 12, 62, 34
    height = len(bars) * row + 26

    def at(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (WIDTH - left - right)

    parts = []
    for value in ticks(low, high, 4):
        parts.append(_tag("line", x1=at(value), x2=at(value), y1=4, y2=height - 18, class_="grid"))
        parts.append(_text(value_format(value), x=at(value), y=height - 4, class_="tick middle"))
    if reference is not None:
        parts.append(_tag("line", x1=at(reference), x2=at(reference), y1=4, y2=height - 18, class_="reference"))
    for number, bar in enumerate(bars):
        top = number * row + 6
        parts.append(_text(_short(bar.label, 44 - len(bar.note)), x=left, y=top + 9, class_="name", note=bar.note))
        middle = top + 20
        if dots:
            parts += [_tag("circle", cx=at(value), cy=middle, r=3.2, class_="seed") for value in bar.dots]
        else:
            width = max(at(bar.value) - left, 0.5)
            parts.append(_tag("rect", x=left, y=middle - 6, width=width, height=12, rx=2, class_="bar"))
        if bar.low is not None and bar.high is not None:
            parts.append(_tag("line", x1=at(bar.low), x2=at(bar.high), y1=middle, y2=middle, class_="interval"))
        if dots:
            parts.append(_tag("circle", cx=at(bar.value), cy=middle, r=5, class_="mean"))
        parts.append(_text(value_format(bar.value), x=WIDTH - right + 8, y=middle + 4, class_="value"))
    return _figure(parts, title, height)


def reliability_chart(bins: Sequence[dict], *, title: str) -> Markup:
    """Accuracy over confidence, the bars behind it telling how many predictions are that confident.

    Args:
        bins: `from`, `to`, `count`, `confidence`, `accuracy` each; the last two None in an empty one, and the
            confidence where a diverged model's is NaN.
        title: Of the figure.
    """
    total = sum(one["count"] for one in bins)
    if not total:
        return Markup()
    frame = _Frame(
        (0.0, 1.0), (0.0, 1.0), x_label="confidence (bars: share of predictions)", x_format=percent, y_format=percent
    )
    for one in bins:
        share, x = one["count"] / total, frame.x(one["from"])
        frame.parts.append(
            _tag(
                "rect",
                x=x + 1,
                y=frame.y(share),
                width=frame.x(one["to"]) - x - 2,
                height=frame.y(0.0) - frame.y(share),
                class_="share",
            )
        )
    frame.parts.append(
        _tag("line", x1=frame.x(0.0), y1=frame.y(0.0), x2=frame.x(1.0), y2=frame.y(1.0), class_="reference")
    )
    full = [one for one in bins if one["confidence"] is not None]  # nor where scores are no numbers
    points = [(frame.x(one["confidence"]), frame.y(one["accuracy"])) for one in full]
    if points:
        frame.parts.append(_tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), class_="line s0"))
    for (x, y), one in zip(points, full, strict=True):
        hint = f"confidence {percent(one['confidence'])}, accuracy {percent(one['accuracy'])}, {one['count']:,} images"
        frame.parts.append(_tag("circle", hint=hint, cx=x, cy=y, r=3.5, class_="dot s0"))
    return _figure(frame.parts, title, HEIGHT)


class Point(NamedTuple):
    """A named point of a scatter."""

    label: str
    x: float
    y: float
    size: float = 4.5


def scatter_chart(
    points: Sequence[Point],
    *,
    title: str,
    x_label: str,
    x_format: Format = plain,
    y_format: Format = percent,
    log_x: bool = False,
    labelled: bool = True,
    joined: bool = False,
) -> Markup:
    """Points over one axis; `log_x` where no x is 0 or less; `joined` connects them from left to right."""
    points = sorted((point for point in points if point.x is not None), key=lambda point: point.x)
    log_x = log_x and all(point.x > 0 for point in points)
    if not points:
        return Markup()
    xs, ys = [point.x for point in points], [point.y for point in points]
    x_range = (min(xs) / 1.15, max(xs) * 1.15) if log_x else _padded(min(xs), max(xs), 0.08)
    frame = _Frame(
        x_range, _padded(min(ys), max(ys), 0.12), x_label=x_label, x_format=x_format, y_format=y_format, log_x=log_x
    )
    places = [(frame.x(point.x), frame.y(point.y)) for point in points]
    if joined:
        frame.parts.append(_tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places), class_="line s0"))
    for (x, y), point in zip(places, points, strict=True):
        hint = f"{point.label}: {x_label} {x_format(point.x)}, {y_format(point.y)}"
        frame.parts.append(_tag("circle", hint=hint, cx=x, cy=y, r=point.size, class_="dot s0"))
        if labelled:
            end = x > WIDTH * 0.62
            frame.parts.append(
                _text(
                    _short(point.label, 24),
                    x=x - 8 if end else x + 8,
                    y=y - 6,
                    class_="tick end" if end else "tick",
                )
            )
    return _figure(frame.parts, title, HEIGHT)


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    low, high = _widened((low, high))
    return low - share * (high - low), high + share * (high - low)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(1, length - 1)] + "…"


def _figure(
    parts: Sequence[Markup],
    title: str,
    height: float,
    *,
    legend: Sequence[tuple[str, int]] = (),
    data: Sequence[dict] = (),
) -> Markup:
    entries = Markup().join(
        Markup('<span><i class="key s{}"></i>{}</span>').format(colour, name) for name, colour in legend
    )
    keys = Markup('<div class="legend">{}</div>').format(entries) if legend else Markup()
    points = Markup(' data-series="{}"').format(json.dumps(data, separators=(",", ":"))) if data else Markup()
    return Markup(
        '<figure class="chart"><figcaption>{title}</figcaption>{keys}'
        '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}"{points}>{parts}</svg></figure>'
    ).format(title=title, keys=keys, width=WIDTH, height=height, points=points, parts=Markup().join(parts))


def _tag(name: str, *, hint: str = "", **attributes: object) -> Markup:
    listed = Markup(" ").join(
        Markup('{}="{}"').format(key.rstrip("_"), f"{value:.1f}" if isinstance(value, float) else value)
        for key, value in attributes.items()
    )
    inside = Markup("<title>{}</title>").format(hint) if hint else Markup()
    return Markup("<{} {}>{}</{}>").format(Markup(name), listed, inside, Markup(name))


def _text(text: str, *, note: str = "", **attributes: object) -> Markup:
    behind = Markup('<tspan class="note" dx="6">{}</tspan>').format(note) if note else Markup()
    listed = Markup(" ").join(
        Markup('{}="{}"').format(key.rstrip("_"), f"{value:.1f}" if isinstance(value, float) else value)
        for key, value in attributes.items()
    )
    return Markup("<text {}>{}{}</text>").format(listed, escape(text), behind)
