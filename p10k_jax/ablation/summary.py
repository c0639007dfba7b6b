"""What came out of an ablation, as plain data: figures by run and by variant, and differences from the base."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from ml_collections import ConfigDict

from p10k_jax.ablation.runs import Judged, Run, conflict, figures_of, is_finished, read_failure
from p10k_jax.config import as_plain, changes
from p10k_jax.evaluation.comparison import check_same_images, compare, top1_interval
from p10k_jax.evaluation.predictions import read_predictions
from p10k_jax.facts import read_facts
from p10k_jax.reporting.writers import images_per_second, read_metrics

_SETTINGS = ("step", "image_size", "crop")


def summarise(
    runs: Sequence[Run], configs: Mapping[str, ConfigDict], judged: Judged, *, command: str = ""
) -> dict[str, Any]:
    """Reads everything that is there.

    Args:
        runs: Of all machines; those that are not finished are pending or failed.
        configs: By variant; the first is the base.
        judged: Only runs evaluated so are counted.
        command: For a shell.

    Returns:
        Plain data for JSON: `command`, `split`, `checkpoint`, `base`, and `variants`, a list. A variant has `name`;
        `changes`, the settings in which its config differs from the base's (`[key, in the base, here]`); `runs`; and,
        where a run is finished, `figures` (mean over the runs, by name), `top1_range`, `top1_interval` (95 %, over
        images and seeds; None where the runs are of other images), and `difference` from the base (see `_difference`;
        None where there is none, and for the base unless its own runs are of other images). A run has `seed`, `state`
        (finished, failed, pending), `workdir`, `log`, `message` (why it failed), and what `_facts` has. Times are
        hours, accuracies fractions, costs as in `run.json`.
    """
    told = {run.name: _run(run, judged) for run in runs}
    tables = {
        name: {
            run.seed: read_predictions(run.workdir / "eval" / judged.split / "predictions.parquet")
            for run in runs
            if run.variant == name and told[run.name]["state"] == "finished"
        }
        for name in configs
    }
    base = next(iter(configs))
    variants = [
        {
            "name": name,
            "changes": [
                [key, repr(before), repr(after)]
                for key, before, after in changes(as_plain(configs[base]), as_plain(config))
            ],
            "runs": [told[run.name] for run in runs if run.variant == name],
        }
        | _judgement([told[run.name] for run in runs if run.variant == name], tables[name])
        | {"difference": _refusal(tables[name]) if name == base else _difference(tables[base], tables[name])}
        for name, config in configs.items()
    ]
    return {
        "command": command,
        "split": judged.split,
        "checkpoint": judged.checkpoint,
        "base": base,
        "variants": variants,
    }


def _run(run: Run, judged: Judged) -> dict[str, Any]:
    told = {"variant": run.variant, "seed": run.seed, "workdir": str(run.workdir), "log": str(run.log)}
    refused = conflict(run)
    if not refused and is_finished(run, judged):  # whatever came of an earlier attempt
        return told | {"state": "finished"} | _facts(run, judged)
    if message := refused or read_failure(run):
        return told | {"state": "failed", "message": message}
    return told | {"state": "pending"}


def _facts(run: Run, judged: Judged) -> dict[str, Any]:
    """`figures` (all numbers of `metrics.json`, nested ones by dotted names), `settings` (step, image_size, crop),
    `parameters`, `gflops` (forward, an image), `device`, `images_per_second` (median of the training rows) and `hours`.
    """
    facts, rows = read_facts(run.workdir), read_metrics(run.workdir / "metrics.jsonl")
    numbers = _numbers(figures_of(run, judged))
    return {
        "figures": {key: value for key, value in numbers.items() if key not in _SETTINGS},
        "settings": {key: numbers[key] for key in _SETTINGS if key in numbers},
        "parameters": facts.get("parameters"),
        "gflops": facts["forward_flops"] / 1e9 if facts.get("forward_flops") else None,
        "images_per_second": images_per_second(rows) or None,
        "hours": rows[-1]["seconds"] / 3600 if rows else None,
        "device": facts.get("device"),
    }


def _numbers(node: Mapping[str, Any], prefix: str = "") -> dict[str, float | int]:
    """The numbers of nested mappings by dotted names; lists, such as intervals and bins, are left out."""
    found = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = value
    return found


def _judgement(runs: Sequence[Mapping[str, Any]], tables: Mapping[int, pa.Table]) -> dict[str, Any]:
    finished = [run for run in runs if run["state"] == "finished"]
    if not finished:
        return {"figures": {}}
    names = [name for name in finished[0]["figures"] if all(name in run["figures"] for run in finished)]
    figures = {name: float(np.mean([run["figures"][name] for run in finished])) for name in names}
    for name in ("parameters", "gflops", "images_per_second", "hours"):
        values = [run[name] for run in finished if run[name] is not None]
        figures |= {name: float(np.mean(values))} if values else {}
    tops = [run["figures"]["top1"] for run in finished]
    interval = None if _refusal(tables) else list(top1_interval(tables))
    return {"figures": figures, "top1_range": [min(tops), max(tops)], "top1_interval": interval}


def _refusal(tables: Mapping[int, pa.Table]) -> dict[str, Any] | None:
    """Why the runs of a variant cannot be taken together, as `_difference` has it; None where they can, or are none."""
    try:
        if tables:
            check_same_images({f"seed {seed}": table for seed, table in tables.items()})
    except ValueError as error:
        return {"refused": str(error)}
    return None


def _difference(base: Mapping[int, pa.Table], other: Mapping[int, pa.Table]) -> dict[str, Any] | None:
    """`value` (top-1, other - base), `interval` (95 %), `p`, `method` of the comparison; or `refused`, why not."""
    if not base or not other:
        return None
    try:
        result = compare(base, other)
    except ValueError as error:
        return {"refused": str(error)}
    return {"value": result.difference, "interval": list(result.interval), "p": result.p, "method": result.method}
