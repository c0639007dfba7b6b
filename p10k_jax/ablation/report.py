"""An ablation's summary as files: `ablation.json`, `ablation.csv` (a row a run), `ablation.md` (a row a variant) and
`ablation.html`, a page."""

import csv
import io
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from p10k_jax.files import write_text
from p10k_jax.reporting.ablation_page import ablation_page
from p10k_jax.reporting.text_tables import aligned, markdown

Variant = Mapping[str, Any]


def write_report(workdir: Path, summary: Mapping[str, Any]) -> None:
    """Replaces the files, each whole; several machines may do so at once."""
    writer = f"{socket.gethostname()}-{os.getpid()}"
    texts = {
        "json": json.dumps(summary, indent=2) + "\n",
        "csv": as_csv(summary),
        "md": as_markdown(summary),
        "html": ablation_page(workdir, summary),
    }
    for ending, text in texts.items():
        write_text(workdir / f"ablation.{ending}", text, writer=writer)


def as_csv(summary: Mapping[str, Any]) -> str:
    """A row a run; cells of runs that are not finished are empty."""
    runs = [run for variant in summary["variants"] for run in variant["runs"]]
    figures = list(dict.fromkeys(name for run in runs for name in run.get("figures", {})))
    facts = ["parameters", "gflops", "images_per_second", "hours", "device"]
    columns = ["variant", "seed", "state", *figures, "step", "image_size", "crop", *facts, "workdir"]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for run in runs:
        writer.writerow(run | run.get("figures", {}) | run.get("settings", {}))
    return out.getvalue()


def _percent(name: str) -> Callable[[Variant], str]:
    return lambda variant: f"{variant['figures'][name]:.2%}" if name in variant["figures"] else ""


def _number(name: str, form: str, factor: float = 1.0) -> Callable[[Variant], str]:
    return lambda variant: format(variant["figures"][name] * factor, form) if name in variant["figures"] else ""


def _pair(name: str) -> Callable[[Variant], str]:
    return lambda variant: "{:.2%} to {:.2%}".format(*variant[name]) if variant.get(name) else ""


def _of_difference(form: Callable[[Mapping[str, Any]], str]) -> Callable[[Variant], str]:
    def cell(variant: Variant) -> str:
        found = variant["difference"]
        return form(found) if found and "value" in found else ""

    return cell


def _finished(variant: Variant) -> int:
    return sum(run["state"] == "finished" for run in variant["runs"])


def _runs(variant: Variant) -> str:
    finished = _finished(variant)
    return str(finished) if finished == len(variant["runs"]) else f"{finished} of {len(variant['runs'])}"


_COLUMNS: dict[str, Callable[[Variant], str]] = {
    "variant": lambda variant: variant["name"],
    "runs": _runs,
    "top-1": _percent("top1"),
    "seeds' range": lambda variant: _pair("top1_range")(variant) if _finished(variant) > 1 else "",
    "95 %": _pair("top1_interval"),
    "difference": _of_difference(lambda found: f"{100 * found['value']:+.2f}"),
    "95 % of it": _of_difference(lambda found: "{:+.2f} to {:+.2f}".format(*(100 * end for end in found["interval"]))),
    "p": _of_difference(lambda found: f"{found['p']:.2g}"),
    "top-5": _percent("top5"),
    "mean per class": _percent("mean_per_class"),
    "few": _percent("by_frequency.few.top1"),
    "medium": _percent("by_frequency.medium.top1"),
    "many": _percent("by_frequency.many.top1"),
    "ECE": _number("ece", ".3f"),
    "parameters": _number("parameters", ".1f", 1e-6),
    "GFLOPs": _number("gflops", ".2f"),
    "img/s": _number("images_per_second", ",.0f"),
    "hours": _number("hours", ".2f"),
}
_IN_BRIEF = ("variant", "runs", "top-1", "difference", "95 % of it", "p")


def _table(summary: Mapping[str, Any], columns: Mapping[str, Callable]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, without the columns that no variant has anything for."""
    rows = [[cell(variant) for cell in columns.values()] for variant in summary["variants"]]
    kept = [number for number in range(len(columns)) if number < 3 or any(row[number] for row in rows)]
    return [list(columns)[number] for number in kept], [[row[number] for number in kept] for row in rows]


def as_text(summary: Mapping[str, Any]) -> str:
    """The main columns, aligned for a terminal."""
    return aligned(*_table(summary, {name: _COLUMNS[name] for name in _IN_BRIEF}))


def as_markdown(summary: Mapping[str, Any]) -> str:
    """The table, what each variant changes, what is not finished, and the command."""
    base, split, checkpoint = summary["base"], summary["split"], summary["checkpoint"]
    lines = ["# Ablation", "", markdown(*_table(summary, _COLUMNS)), ""]
    methods = {
        variant["difference"]["method"] for variant in summary["variants"] if "value" in (variant["difference"] or {})
    }
    lines += [
        f"Split {split}, checkpoint {checkpoint}; means over runs. Differences are from {base}, in percentage points"
        + (f"; {_methods_text(methods)}." if methods else ".")
        + " Parameters in millions, GFLOPs of one image forward, img/s in training.",
        "",
        f"## Against {base}",
        "",
    ]
    for variant in summary["variants"]:
        lines += [f"- **{variant['name']}**" + (":" if variant["changes"] else ": the base")]
        lines += [f"  - `{key}: {before} -> {after}`" for key, before, after in variant["changes"]]
        if "refused" in (variant["difference"] or {}):
            lines += [f"  - not compared: {variant['difference']['refused']}"]
    lines += ["", *_unfinished(summary), "## Command", "", "```bash", summary["command"], "```", ""]
    return "\n".join(lines)


def _methods_text(methods: set[str]) -> str:
    told = {
        "one run a side": "for one run a side, the interval is a paired bootstrap over images and p McNemar's: how "
        "other seeds would come out is not in them",
        "seeds paired": "intervals and p are over images and seeds (Hillis 2007, seeds paired)",
        "seeds apart": "intervals and p are over images and seeds (Hillis 2014, seeds apart)",
    }
    return "; ".join(told[method] for method in sorted(methods))


def _unfinished(summary: Mapping[str, Any]) -> list[str]:
    runs = [run for variant in summary["variants"] for run in variant["runs"] if run["state"] != "finished"]
    if not runs:
        return []
    lines = ["## Not finished", ""]
    for run in runs:
        lines += [f"- {run['variant']} seed {run['seed']}: {run['state']}"]
        if message := run.get("message"):
            lines += ["", "  ```", *(f"  {line}" for line in message.splitlines()), "  ```", ""]
    return [*lines, ""]
