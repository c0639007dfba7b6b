"""What an evaluation leaves in its folder: the predictions, the figures, the embeddings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from p10k_jax.data.classes import Classes
from p10k_jax.evaluation.figures import figures
from p10k_jax.evaluation.predictions import Predictions
from p10k_jax.files import whole_file, write_json
from p10k_jax.parquet import read_parquet


def write_table(path: Path, table: pa.Table, said: Mapping[str, Any], **how) -> None:
    """Writes Parquet whole or not at all, `said` in the schema's metadata; `how` goes to Parquet's writer."""
    metadata = {key: str(value) for key, value in said.items()}
    with whole_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, **how)


def read_said(path: Path) -> dict[str, str]:
    """What `write_table` was told to say, as text; reads no column."""
    metadata = _schema(path).metadata or {}
    return {
        key.decode(errors="replace"): value.decode(errors="replace")
        for key, value in metadata.items()
        if key != b"ARROW:schema"
    }


def write_embeddings(path: Path, predictions: Predictions, said: Mapping[str, Any]) -> None:
    """Writes `name string, embedding fixed_size_list<float32>[d]` in the table's order, as Parquet, uncompressed.

    Parquet, because a vector then never parts from its name, as it can from rows of an `.npy`; nothing is unpickled,
    and pyarrow, Polars and DuckDB read it. Floats hardly compress: without trying, 200,000 vectors of width 768
    (0.6 GB) are written in about a second.
    """
    vectors = predictions.more["embedding"]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    table = pa.table({"name": predictions.table["name"], "embedding": column})
    write_table(path, table, said, compression="none", use_dictionary=False, write_statistics=False)


def read_embeddings(path: Path) -> tuple[list[str], Float[np.ndarray, "n d"]]:
    """Names and vectors as `write_embeddings` wrote them. Raises ValueError if the columns are not those."""
    kind = _schema(path).field("embedding").type if "embedding" in _schema(path).names else None
    if kind is None or not pa.types.is_fixed_size_list(kind) or not 0 < kind.list_size < _WIDEST:
        raise ValueError(f"{path} has no embeddings of one width; evaluate anew with --embeddings.")
    schema = pa.schema({"name": pa.string(), "embedding": pa.list_(pa.float32(), kind.list_size)})
    table = read_parquet(path, schema, "evaluate anew with --embeddings")
    column = table["embedding"].combine_chunks()
    return table["name"].to_pylist(), column.flatten().to_numpy().reshape(len(column), -1)


_WIDEST = 1 << 20


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (ValueError, RuntimeError, pa.ArrowException) as error:
        raise ValueError(f"{path} is no Parquet file ({error!s:.500}).") from error


def write_evaluation(
    folder: Path, table: pa.Table, *, classes: Classes | None, step: int, **settings: Any
) -> dict[str, Any]:
    """Writes `predictions.parquet` and `metrics.json`, each whole or not at all, and returns what the latter holds.

    Both say the checkpoint's step and with which settings it was evaluated: the table in its schema's metadata, the
    other before its figures.
    """
    said = {"step": step} | settings
    found = said | figures(table, classes)  # first, for it takes a while: so the two files appear together
    write_table(folder / "predictions.parquet", table, said)
    write_json(folder / "metrics.json", found)
    return found
