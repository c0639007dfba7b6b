"""The figures of an evaluation as a few lines of text."""

from typing import Any, NamedTuple

from p10k_jax.evaluation.subsets import FREQUENCY_BANDS

_CONFUSIONS = 3


class _Row(NamedTuple):
    name: str
    value: float | None
    interval: list[float | None]
    count: int
    note: str = ""


def summary(figures: dict[str, Any]) -> str:
    """The figures that one reads first, a line each with its 95 % interval, and the most frequent confusions.

    Args:
        figures: Of `p10k_jax.evaluation.figures`.
    """
    rows = _rows(figures)
    width = max(len(row.name) for row in rows)
    count_width = max(len("images"), *(len(f"{row.count:,}") for row in rows))
    lines = [f"  {'':{width}}          95 % interval     {'images':>{count_width}}"]
    for row in rows:
        low, high = map(_number, row.interval)
        line = f"  {row.name:{width}}  {_number(row.value)}  {low} to {high}  {row.count:{count_width},}  {row.note}"
        lines.append(line.rstrip())
    return "\n".join(lines + _confusion_lines(figures["confusions"][:_CONFUSIONS]))


def _rows(figures: dict[str, Any]) -> list[_Row]:
    intervals, count = figures["intervals"], figures["count"]

    def row(key: str, name: str, images: int = count) -> _Row:
        return _Row(name, figures[key], intervals[key], images)

    rows = [row("top1", "top-1"), row("top5", "top-5"), row("mean_per_class", "mean per class")]
    usages = [key.removeprefix("top1_") for key in intervals if key.startswith("top1_")]
    rows += [row(f"top1_{usage}", f"top-1, {usage}", figures[f"count_{usage}"]) for usage in usages]
    rows += [
        _Row(f"top-1, {band}", part["top1"], part["interval"], part["count"], _band_note(band, part["classes"]))
        for band, part in figures.get("by_frequency", {}).items()
    ]
    return [*rows, row("ece", "calibration error")]


def _band_note(band: str, classes: int) -> str:
    least, most = FREQUENCY_BANDS[band]
    pictures = f"{least} to {most}" if most is not None else f"{least} or more"
    return f"in {classes:,} {'class' if classes == 1 else 'classes'} with {pictures} training pictures"


def _number(value: float | None) -> str:
    return "   n/a" if value is None else f"{value:.4f}"


def _confusion_lines(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    shares = [f"{row['count']:,} of {row['of']:,}" for row in rows]
    labels = [_class_name(row, "label") for row in rows]
    share_width, label_width = max(map(len, shares)), max(map(len, labels))
    return ["  most often confused"] + [
        f"    {share:>{share_width}}  {label:{label_width}}  taken for {_class_name(row, 'predicted')}"
        for share, label, row in zip(shares, labels, rows, strict=True)
    ]


def _class_name(row: dict[str, Any], which: str) -> str:
    return row[f"{which}_name"] or f"class {row[which]}"
