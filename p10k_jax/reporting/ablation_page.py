"""`ablation.html`: the variants of an ablation held against its base, and what each of them changes."""

import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from p10k_jax.evaluation.comparison import SIGNIFICANT
from p10k_jax.reporting import charts
from p10k_jax.reporting.charts import Bar, Point, Series, percent, plain
from p10k_jax.reporting.page import render
from p10k_jax.reporting.run_page import FILE as RUN_PAGE
from p10k_jax.reporting.run_page import interval_text
from p10k_jax.reporting.writers import read_metrics


def ablation_page(workdir: Path, summary: Mapping[str, Any]) -> str:
    """The page as HTML.

    Args:
        workdir: Of the ablation; the page links to those of its runs.
        summary: By `p10k_jax.ablation.summary.summarise`.
    """
    variants = summary["variants"]
    judged = [variant for variant in variants if variant["figures"]]
    runs = [run for variant in variants for run in variant["runs"]]
    finished = sum(run["state"] == "finished" for run in runs)
    base = next((variant for variant in judged if variant["name"] == summary["base"]), None)
    columns, table = _table(judged)
    return render(
        "ablation.html",
        title=workdir.resolve().name,
        lead=f"{len(variants)} variants on the {summary['split']} split, {summary['checkpoint']} checkpoint; "
        f"{finished} of {len(runs)} runs finished",
        tiles=_headline(judged, base, summary["split"]),
        figures=[*_figures(judged, base), *_curves(judged)],
        columns=columns,
        table=table,
        statistics=_statistics(judged),
        variants=variants,
        runs=[_run(workdir, run) for run in runs],
        command=summary["command"],
    )


def _accuracy(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _headline(judged: Sequence[Mapping], base: Mapping | None, split: str) -> list[dict[str, str]]:
    """The figures at the top; `base` is None until a run of it has finished."""
    if not judged:
        return []
    best = max(judged, key=lambda variant: variant["figures"]["top1"])
    tiles = [{"what": f"best {split} top-1", "figure": _accuracy(best["figures"]["top1"]), "note": best["name"]}]
    if base:
        tiles.append({"what": "the base", "figure": _accuracy(base["figures"]["top1"]), "note": base["name"]})
    told = best.get("difference") or {}
    if "value" in told:
        note = f"{interval_text(told['interval'])}; p {_p(told['p'], equals='= ')}"
        tiles.append({"what": "difference", "figure": f"{100 * told['value']:+.2f}", "note": note})
    hours = sum(run["hours"] or 0 for variant in judged for run in variant["runs"] if run["state"] == "finished")
    tiles.append({"what": "training", "figure": _time(hours), "note": "all finished runs"})
    return tiles


def _time(hours: float) -> str:
    return f"{hours:.3g} h" if hours >= 1 else f"{60 * hours:.2g} min"


def _p(value: float, *, equals: str = "") -> str:
    return "< 0.001" if value < 0.001 else f"{equals}{value:.3f}"


def _figures(judged: Sequence[Mapping], base: Mapping | None) -> list[Markup]:
    """The variants as dots with their seeds, and against what they cost where that differs."""
    if not judged:
        return []
    bars = []
    for variant in judged:
        seeds = tuple(run["figures"]["top1"] for run in variant["runs"] if run["state"] == "finished")
        low, high = variant["top1_interval"] or (None, None)
        note = f"{len(seeds)} runs" if len(seeds) > 1 else "1 run"
        bars.append(Bar(variant["name"], variant["figures"]["top1"], low, high, note=note, dots=seeds))
    reference = base["figures"]["top1"] if base else None
    title = "Top-1, with 95 % interval and single runs"
    found = [charts.bar_chart(bars, title=title, dots=True, reference=reference)]
    for key, label in (("gflops", "GFLOPs an image"), ("images_per_second", "images a second"), ("hours", "hours")):
        points = [
            Point(variant["name"], variant["figures"][key], variant["figures"]["top1"])
            for variant in judged
            if variant["figures"].get(key)
        ]
        # Only what the variants pay differently is worth a chart; measured times always differ a little.
        spread = max((point.x for point in points), default=0) / min((point.x for point in points), default=1)
        if len(points) > 1 and spread > (1.01 if key == "gflops" else 1.3):
            found.append(charts.scatter_chart(points, title=f"Top-1 over {label}", x_label=label, log_x=spread > 3))
    return [chart for chart in found if chart]


_COLUMNS = {  # key of the figures: (heading, how it is written)
    "top5": ("top-5", _accuracy),
    "top1_public": ("public", _accuracy),
    "top1_private": ("private", _accuracy),
    "mean_per_class": ("per class", _accuracy),
    "by_frequency.few.top1": ("few", _accuracy),
    "by_frequency.medium.top1": ("medium", _accuracy),
    "by_frequency.many.top1": ("many", _accuracy),
    "ece": ("ECE", _accuracy),
    "parameters": ("parameters", lambda value: f"{value / 1e6:.3g} M"),
    "gflops": ("GFLOPs", plain),
    "images_per_second": ("img/s", plain),
    "hours": ("training", _time),
}


def _table(judged: Sequence[Mapping]) -> tuple[list[str], list[list[dict[str, Any]]]]:
    kept = {key: column for key, column in _COLUMNS.items() if any(key in variant["figures"] for variant in judged)}
    rows = []
    for variant in judged:
        figures = variant["figures"]
        seeds = sum(run["state"] == "finished" for run in variant["runs"])
        low, high = variant["top1_range"]
        spread = f"{100 * low:.2f} to {100 * high:.2f}" if seeds > 1 else ""
        cells = [
            _cell(variant["name"], variant["name"], sub=f"{seeds} run{'s' if seeds != 1 else ''}"),
            _cell(_accuracy(figures["top1"]), figures["top1"], sub=spread),
            _cell(interval_text(variant["top1_interval"]).removeprefix("95 %: "), figures["top1"]),
            *_difference_cells(variant.get("difference")),
        ]
        for key, (_, written) in kept.items():
            value = figures.get(key)
            cells.append(_cell("" if value is None else written(value), "" if value is None else value))
        rows.append(cells)
    columns = ["variant", "top-1", "95 % interval", "difference", "p", *(heading for heading, _ in kept.values())]
    return columns, rows


def _cell(text: str, value: Any = "", *, sub: str = "", mark: str = "") -> dict[str, Any]:
    return {"text": text, "value": value, "sub": sub, "mark": mark}


def _difference_cells(told: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if not told:
        return [_cell("–"), _cell("–")]
    if "refused" in told:
        return [_cell("–", sub=told["refused"]), _cell("–")]
    mark = "" if told["p"] >= SIGNIFICANT else "good" if told["value"] > 0 else "bad"
    sub = interval_text(told["interval"]).removeprefix("95 %: ")
    return [_cell(f"{100 * told['value']:+.2f}", told["value"], sub=sub, mark=mark), _cell(_p(told["p"]), told["p"])]


_METHODS = {
    "one run a side": "differences: exact McNemar test over images, one run a side; other seeds may come out otherwise",
    "seeds paired": "differences: over images and seeds, runs paired by seed",
    "seeds apart": "differences: over images and seeds, other seeds on each side",
}


def _statistics(judged: Sequence[Mapping]) -> str:
    used = {told["method"] for variant in judged if (told := variant.get("difference")) and "method" in told}
    said = [_METHODS.get(method, method) for method in sorted(used)]
    return "; ".join(["Accuracies in percent, intervals cover 95 %", *said]) + "."


def _curves(judged: Sequence[Mapping]) -> list[Markup]:
    losses, accuracies, name = [], [], ""
    for variant in judged:
        run = next(run for run in variant["runs"] if run["state"] == "finished")
        rows = read_metrics(Path(run["workdir"]) / "metrics.jsonl")
        trained = [row for row in rows if "train/loss" in row]
        smooth = charts.smoothed([row["train/loss"] for row in trained], over=len(trained) // 15 + 1)
        losses.append(Series(variant["name"], [row["step"] for row in trained], smooth))
        key = next((key for row in rows for key in row if key.endswith("/top1")), None)
        validated = [row for row in rows if key in row] if key else []
        accuracies.append(Series(variant["name"], [row["step"] for row in validated], [row[key] for row in validated]))
        name = key or name
    step = {"x_label": "step", "x_format": lambda value: f"{value:,.0f}"}
    drawn = (
        charts.line_chart(losses, title="Training loss, smoothed", **step),
        charts.line_chart(accuracies, title=f"{name.removesuffix('/top1')} top-1", y_format=percent, **step),
    )
    return [chart for chart in drawn if chart]


def _run(workdir: Path, run: Mapping[str, Any]) -> dict[str, str]:
    page = Path(run["workdir"]) / RUN_PAGE
    link = ""
    if page.exists() and page.is_relative_to(workdir):
        link = urllib.parse.quote(page.relative_to(workdir).as_posix())
    finished = run["state"] == "finished"
    return {
        "name": f"{run['variant']}, seed {run['seed']}",
        "link": link,
        "state": run["state"],
        "top1": _accuracy(run["figures"]["top1"]) if finished else "",
        "step": f"{run['settings']['step']:,.0f}" if finished else "",
        "speed": plain(run["images_per_second"]) if finished and run["images_per_second"] else "",
        "hours": _time(run["hours"]) if finished and run["hours"] else "",
        "device": (run.get("device") or "") if finished else "",
        "message": run.get("message", ""),
    }
