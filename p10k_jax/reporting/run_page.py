"""`report.html` of a workdir: what was trained and how, what came out, and where it errs."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from configs import common
from p10k_jax.config import as_plain, changes, read_workdir
from p10k_jax.data.classes import FILE as CLASSES
from p10k_jax.data.classes import Classes, read_classes
from p10k_jax.evaluation.predictions import read_predictions
from p10k_jax.facts import read_facts
from p10k_jax.files import read_object, write_text
from p10k_jax.reporting import charts
from p10k_jax.reporting.charts import Bar, Series, percent, plain
from p10k_jax.reporting.gallery import PAIRS, Gallery, read_gallery
from p10k_jax.reporting.page import render
from p10k_jax.reporting.progress import duration_text
from p10k_jax.reporting.writers import images_per_second, read_metrics

FILE = "report.html"
_GROUPS = 12


def write_run_page(workdir: Path) -> Path:
    """Writes `report.html` and returns its path. Raises ValueError where a file of the workdir is none of ours."""
    try:
        page = run_page(workdir)
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        told = f"{type(error).__name__}: {error!s:.500}"
        raise ValueError(f"{workdir / FILE} cannot be made of what lies in the workdir ({told}).") from error
    write_text(workdir / FILE, page)
    return workdir / FILE


def keep_run_page(workdir: Path, say: Callable[[str], None]) -> None:
    """`write_run_page` for a run that goes on: a page that cannot be made, of a damaged file say, is only said."""
    try:
        write_run_page(workdir)
    except Exception as error:  # whatever lies in a workdir, training must not end of it
        say(f"{workdir / FILE} could not be made ({type(error).__name__}: {error})")


def run_page(workdir: Path) -> str:
    """The page as HTML, made of what lies in the workdir: curves, and the figures and gallery of each split that was
    evaluated."""
    config = read_workdir(workdir).to_dict()
    given = config.pop("given", config)
    rows, told = read_metrics(workdir / "metrics.jsonl"), read_facts(workdir)
    classes = read_classes(workdir) if (workdir / CLASSES).exists() else None
    evaluated = sorted(path.parent for path in (workdir / "eval").glob("*/metrics.json"))
    evaluated.sort(key=lambda folder: folder.name != "test")  # what is reported comes first
    splits = [_split(folder, classes) for folder in evaluated]
    data = config["data"]
    return render(
        "run.html",
        title=workdir.resolve().name,
        lead=f"{config['model']['name']} on {data['name']}/{data['config']}".rstrip("/")
        + f", {config['model']['num_classes']:,} classes",
        tiles=_headline(splits, rows, told),
        curves=_curves(rows, config),
        splits=splits,
        changes=[
            (key, _said(old), _said(new))
            for key, old, new in changes(as_plain(common.get_config()), given)
            if (old, new) != ("absent", None)  # an option that this model has, left as its name has it
        ],
        config=json.dumps(config, indent=2),
        facts=_facts(rows, told),
        command=told.get("command", ""),
    )


def _said(value: Any) -> str:
    return {None: "", "absent": "–"}.get(value, json.dumps(value)) if not isinstance(value, list) else json.dumps(value)


def _tile(what: str, figure: str, note: str = "") -> dict[str, str]:
    return {"what": what, "figure": figure, "note": note}


def interval_text(interval: Sequence[float] | None) -> str:
    """A 95 % interval of fractions."""
    return f"95 %: {100 * interval[0]:.2f} to {100 * interval[1]:.2f}" if interval else ""


def _accuracy(value: float) -> str:
    return f"{100 * value:.2f} %"


def _headline(splits: Sequence[Mapping], rows: Sequence[Mapping], told: Mapping) -> list[dict[str, str]]:
    """The few figures at the top of the page."""
    tiles = list(splits[0]["tiles"][:1]) if splits else []
    for tile in tiles:
        tiles = [tile | {"what": f"{splits[0]['name']} {tile['what']}"}]
    validated = [row for row in rows if any(key.endswith("/top1") for key in row)]
    if validated:
        (key,) = (key for key in validated[-1] if key.endswith("/top1"))
        best = max((row for row in validated if key in row), key=lambda row: (row[key], row["step"]))  # as checkpoints
        note = f"step {best['step']:,}"
        if count := best.get(key.replace("/top1", "/count")):
            note += f", of {count:,.0f} images"
        tiles.append(_tile(f"best {key.removesuffix('/top1')} top-1", _accuracy(best[key]), note))
    if "parameters" in told:
        tiles.append(_tile("parameters", _count(told["parameters"])))
        if told.get("forward_flops"):
            flops = f"{told['forward_flops'] / 1e9:.3g} G"
            tiles.append(_tile("FLOPs an image", flops, f"forward, {told['image_size']} pixels"))
    if speed := images_per_second(rows):
        tiles.append(_tile("images a second", f"{speed:,.0f}", f"{told['devices']} x {told['device']}" if told else ""))
    waits = [row["train/data_wait"] for row in rows if "train/data_wait" in row]
    if waits:
        tiles.append(_tile("data wait", f"{100 * np.mean(waits):.1f} %", "of the time, at most"))
    if seconds := max((row.get("seconds", 0.0) for row in rows), default=0.0):
        tiles.append(_tile("time taken", duration_text(seconds)))
    return tiles


def _count(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,}"


def _curves(rows: Sequence[Mapping], config: Mapping) -> list[Markup]:
    def of(key: str, **more: Any) -> Series:
        kept = [row for row in rows if key in row]
        return Series("", [row["step"] for row in kept], [row[key] for row in kept], **more)

    def raw_and_smooth(key: str) -> list[Series]:
        raw = of(key, colour=0, faint=True)
        if len(raw.x) < 60:
            return [raw._replace(faint=False)]
        return [raw, Series("", raw.x, charts.smoothed(raw.y, over=len(raw.x) // 15 + 1), colour=0)]

    step = {"x_label": "step", "x_format": lambda value: f"{value:,.0f}"}
    validated = [
        of(f"{split}/{key}")._replace(name=f"{split} {name}")
        for split in dict.fromkeys((config["eval"]["split"], "validation"))
        for key, name in (("top1", "top-1"), ("top5", "top-5"))
    ]
    return [
        chart
        for chart in (
            charts.line_chart(raw_and_smooth("train/loss"), title="Training loss", **step),
            charts.line_chart(validated, title="Validation accuracy", y_format=percent, **step),
            charts.line_chart(
                raw_and_smooth("train/accuracy"), title="Accuracy on training batches", y_format=percent, **step
            ),
            charts.line_chart([of("train/learning_rate")], title="Learning rate", from_zero=True, **step),
            charts.line_chart(raw_and_smooth("train/gradient_norm"), title="Gradient norm", from_zero=True, **step),
            charts.line_chart(
                [of("train/images_per_second")], title="Images a second", from_zero=True, y_format=plain, **step
            ),
        )
        if chart
    ]


def _split(folder: Path, classes: Classes | None) -> dict[str, Any]:
    """What the page shows of one evaluated split."""
    figures = read_object(folder / "metrics.json", "evaluate anew")
    table = read_predictions(folder / "predictions.parquet")
    gallery = read_gallery(folder)
    return {
        "name": folder.name,
        "lead": f"{figures['count']:,} images, checkpoint of step {figures['step']:,}{_settings(figures)}",
        "tiles": _tiles(figures) + _neighbour_tiles(folder / "neighbours.json", figures),
        "charts": _split_charts(figures, table, classes),
        "mistakes": _mistakes(table, classes, gallery),
        "pairs": _pairs(figures, table, classes, gallery),
    }


def _tiles(figures: Mapping) -> list[dict[str, str]]:
    intervals = figures.get("intervals", {})
    named = {"top1": "top-1", "top5": "top-5", "mean_per_class": "mean per class", "top1_public": "public top-1"}
    named |= {"top1_private": "private top-1"}
    tiles = [
        _tile(name, _accuracy(figures[key]), interval_text(intervals.get(key)))
        for key, name in named.items()
        if figures.get(key) is not None
    ]
    if figures.get("ece") is not None:
        tiles.append(
            _tile("calibration error", _accuracy(figures["ece"]), interval_text(intervals.get("ece")) or "expected")
        )
    return tiles


def _settings(figures: Mapping) -> str:
    """What the model saw of each image."""
    named = (("image_size", "image size"), ("crop", "crop"))
    said = "".join(f", {name} {figures[key]}" for key, name in named if key in figures)
    return said + (", each also mirrored" if figures.get("flip") else "")


def _neighbour_tiles(path: Path, figures: Mapping) -> list[dict[str, str]]:
    """What the embeddings say, where they were judged in the same evaluation."""
    told = read_object(path, "evaluate anew") if path.exists() else {}
    if not told or any(told.get(key) != figures.get(key) for key in ("step", "image_size", "crop", "flip")):
        return []
    knn, fused, retrieval = told["knn"], told["fused"], told["retrieval"]["gallery"]
    tiles = [
        _tile("nearest neighbours", _accuracy(knn["top1"]), f"top-1, k = {knn['k']}"),
        _tile("prototypes", _accuracy(told["prototypes"]["top1"]), "top-1"),
        _tile("head and neighbours", _accuracy(fused["top1"]), f"top-1, k = {fused['k']}, weight {fused['weight']}"),
    ]
    if "recall_at_1" in retrieval:  # else no image has one of its class in train
        tiles += [
            _tile("retrieval", _accuracy(retrieval["recall_at_1"]), "recall@1 in train"),
            _tile("mAP@10", _accuracy(retrieval["map_at_10"]), "in train"),
        ]
    return tiles


def _split_charts(figures: Mapping, table: pa.Table, classes: Classes | None) -> list[Markup]:
    found = []
    if bands := figures.get("by_frequency"):
        found.append(
            charts.bar_chart(
                [_band(name, band) for name, band in bands.items()],
                title="Top-1 by training pictures of the class",
                limits=(0.0, 1.0),
            )
        )
    if classes is not None and classes.train_images is not None and len(np.unique(classes.train_images)) > 2:
        found.append(head_to_tail(table, classes))
    if calibration := figures.get("calibration"):
        found.append(charts.reliability_chart(calibration, title="Calibration"))
    if groups := figures.get("by_group"):
        ordered = sorted(groups, key=lambda group: group["top1"])
        shown = ordered if len(ordered) <= _GROUPS else ordered[:_GROUPS]
        title = "Top-1 by group" + (f": the worst {len(shown)} of {len(ordered)}" if len(shown) < len(ordered) else "")
        bars = [
            Bar(group["name"] or f"group {group['group']}", group["top1"], note=f"{group['count']:,} images")
            for group in shown
        ]
        found.append(charts.bar_chart(bars, title=title, limits=(0.0, 1.0)))
    return [chart for chart in found if chart]


def _band(name: str, band: Mapping) -> Bar:
    least, most = band["train_images"]
    of = f"{least} or more" if most is None else f"at most {most}" if least <= 1 else f"{least} to {most}"
    low, high = band.get("interval") or (None, None)
    return Bar(f"{name}: {of}", band["top1"], low, high, note=f"{band['classes']:,} classes")


def head_to_tail(table: pa.Table, classes: Classes, parts: int = 10) -> Markup:
    """Top-1 over how many training pictures a class has: classes in order of that, in parts of as many images each."""
    labels = table["label"].to_numpy()
    right = np.array([row[0] for row in table["top5_labels"].to_pylist()]) == labels
    frequency = classes.train_images[labels]
    order = np.argsort(frequency, kind="stable")
    points = []
    for part in np.array_split(order, min(parts, len(order))):
        many = frequency[part]
        label = f"{many.min()} to {many.max()} pictures, {len(part):,} images"
        points.append(
            charts.Point(label, max(float(np.exp(np.log(np.maximum(many, 1)).mean())), 1.0), right[part].mean())
        )
    return charts.scatter_chart(
        points,
        title="Tail to head",
        x_label="training pictures of the class",
        log_x=True,
        labelled=False,
        joined=True,
    )


def _namer(classes: Classes | None):
    return lambda label: classes.names[label] if classes and classes.names[label] else f"class {label}"


def _mistakes(table: pa.Table, classes: Classes | None, gallery: Gallery) -> list[dict[str, Any]]:
    named, found = _namer(classes), []
    rows = {name: row for row, name in enumerate(table["name"].to_pylist()) if name in gallery.surest}
    shown = [rows[name] for name in gallery.surest if name in rows]
    for row in table.take(shown).to_pylist() if shown else []:
        predicted, truth = row["top5_labels"][0], row["label"]
        if predicted == truth:  # the pictures are of an earlier evaluation
            continue
        found.append(
            {
                "name": row["name"],
                "picture": gallery.surest[row["name"]],
                "truth": named(truth),
                "rank": row["top5_labels"].index(truth) + 1 if truth in row["top5_labels"] else None,
                "truth_examples": gallery.examples.get(truth, []),
                "predicted": named(predicted),
                "predicted_examples": gallery.examples.get(predicted, []),
                "score": percent(row["top5_scores"][0]),
            }
        )
    return found


def _pairs(figures: Mapping, table: pa.Table, classes: Classes | None, gallery: Gallery) -> list[dict[str, Any]]:
    named, found = _namer(classes), []
    if not gallery.surest:
        return found
    known = gallery.surest | gallery.others
    pictures: dict[tuple[int, int], list[str]] = {}
    for name, label, ranked in zip(*(table[key].to_pylist() for key in ("name", "label", "top5_labels")), strict=True):
        if name in known:
            pictures.setdefault((label, ranked[0]), []).append(known[name])
    for pair in figures.get("confusions", [])[:PAIRS]:
        label, predicted = pair["label"], pair["predicted"]
        found.append(
            {
                "truth": named(label),
                "predicted": named(predicted),
                "count": pair["count"],
                "of": pair["of"],
                "pictures": pictures.get((label, predicted), []),
                "truth_examples": gallery.examples.get(label, []),
                "predicted_examples": gallery.examples.get(predicted, []),
            }
        )
    return found


def _facts(rows: Sequence[Mapping], told: Mapping) -> list[tuple[str, str]]:
    if not told:
        return []
    hosts = f", {told['hosts']} hosts" if told["hosts"] > 1 else ""
    facts = [("devices", f"{told['devices']} x {told['device']}{hosts}")]
    if speed := images_per_second(rows):
        facts.append(("throughput", f"{speed:,.1f} images a second (median)"))
    return facts + [(package, version) for package, version in told["versions"].items()]
