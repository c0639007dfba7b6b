"""Compares finished runs on the images of a split.

    python -m p10k_jax.compare --workdirs=A,B[,C ...] --split=test [--json]

The first is the base. Each run is taken as it is: how other seeds would come out is the question of `p10k_jax.ablate`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from absl import flags

from p10k_jax import buckets
from p10k_jax.config import clear_errors, run_program
from p10k_jax.evaluation.comparison import check_same_images, compare, mcnemar, right
from p10k_jax.evaluation.predictions import read_predictions
from p10k_jax.reporting.text_tables import aligned

FILE = "predictions.parquet"


def read_runs(workdirs: Sequence[Path], split: str) -> dict[str, pa.Table]:
    """The predictions of runs on a split, by workdir.

    Raises:
        ValueError: fewer than two runs, one twice, one that was not evaluated, or runs evaluated on other images.
    """
    if len(workdirs) < 2 or len(set(workdirs)) < len(workdirs):
        raise ValueError("--workdirs: give at least two different runs, separated by commas.")
    tables = {}
    for workdir in workdirs:
        path = workdir / "eval" / split / FILE
        if not path.exists():
            command = f"python -m p10k_jax.evaluate --workdir={workdir} --split={split}"
            raise ValueError(f"{workdir} was not evaluated on {split!r} (no {path}). Run: {command}")
        tables[str(workdir)] = read_predictions(path)
    check_same_images(tables)
    return tables


def comparisons(tables: dict[str, pa.Table]) -> list[dict[str, Any]]:
    """A row a run: `run`, `top1`, and of all but the first `difference`, `interval`, `only_base`, `only_run`, `p`."""
    (base, first), *others = tables.items()
    rows = [{"run": base, "top1": float(right(first).mean())}]
    for run, table in others:
        result, test = compare({0: first}, {0: table}), mcnemar(first, table)
        rows.append(
            {"run": run, "top1": result.other, "difference": result.difference, "interval": list(result.interval)}
            | {"only_base": test.only_first, "only_run": test.only_second, "p": test.p}
        )
    return rows


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as an aligned table."""
    header = ["run", "top-1", "difference", "95 % interval", "only base right", "only other right", "p"]
    cells = [[rows[0]["run"], f"{rows[0]['top1']:.4f}", "", "", "", "", ""]]
    for row in rows[1:]:
        interval = "{:+.4f} to {:+.4f}".format(*row["interval"])
        counts = f"{row['only_base']:,}", f"{row['only_run']:,}"
        cells.append(
            [row["run"], f"{row['top1']:.4f}", f"{row['difference']:+.4f}", interval, *counts, f"{row['p']:.2g}"]
        )
    return aligned(header, cells)


def main() -> None:
    """Reads the tables and prints the comparison."""
    given = flags.FLAGS
    with clear_errors():
        folders = [buckets.opened(path, setting="workdirs", writes=False).folder for path in given.workdirs]
        tables = read_runs(folders, given.split).values()
        rows = comparisons(dict(zip(given.workdirs, tables, strict=True)))
    print(json.dumps(rows, indent=2) if given.json else as_text(rows))


def define_flags() -> None:
    """Defines this program's flags."""
    flags.DEFINE_list(
        "workdirs", None, "Folders of evaluated runs, or gs://BUCKET/PATH, separated by commas; the first is the base."
    )
    flags.DEFINE_string("split", "test", "Split on which they were evaluated.")
    flags.DEFINE_bool("json", False, "Print JSON.")


if __name__ == "__main__":
    run_program(main, define_flags, required=("workdirs",))
