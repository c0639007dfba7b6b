"""What an evaluation leaves in its folder: the predictions and the figures."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from p10k_jax.data.classes import Classes
from p10k_jax.evaluation.figures import figures
from p10k_jax.files import write_json


def write_evaluation(
    folder: Path, table: pa.Table, *, classes: Classes | None, step: int, **settings: float
) -> dict[str, Any]:
    """Writes `predictions.parquet` and `metrics.json`, each whole or not at all, and returns what the latter holds.

    Both say the checkpoint's step and with which settings it was evaluated: the table in its schema's metadata, the
    other before its figures.
    """
    said = {"step": step} | settings
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "predictions.incomplete"
    pq.write_table(table.replace_schema_metadata({key: str(value) for key, value in said.items()}), temporary)
    temporary.replace(folder / "predictions.parquet")
    found = said | figures(table, classes)
    write_json(folder / "metrics.json", found)
    return found
