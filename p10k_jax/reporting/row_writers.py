"""Writers of tables of predictions: rows as they come, the file whole or not at all."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from p10k_jax.files import whole_file

# Rows that a Parquet file holds in one group, and so the writer in memory.
_GROUP_ROWS = 4096


class Row(NamedTuple):
    """What is said of one picture.

    Attributes:
        name: Of the picture.
        top5_labels: Names of the likeliest classes; empty where the picture could not be read.
        top5_scores: Their probabilities, descending; likewise.
        error: Why it could not be read; '' where it was.
        top1: The likeliest class, also for what stands in for an unreadable picture.
        embedding: None where none is wanted or the picture could not be read.
    """

    name: str
    top5_labels: list[str]
    top5_scores: list[float]
    error: str
    top1: str
    embedding: Float[np.ndarray, " d"] | None = None


COLUMNS = ("name", "top5_labels", "top5_scores", "error")
Write = Callable[[Iterable[Row]], None]
Table = contextlib.AbstractContextManager[Write]


def check_table(path: Path, *, embeddings: bool) -> None:
    """Raises ValueError for a path of no known kind, one that is a folder, or embeddings where they do not go."""
    if path.suffix not in _TABLES:
        raise ValueError(f"--output={path} ends in {path.suffix!r}; known: {', '.join(_TABLES)}.")
    check_file(path, setting="output")
    if embeddings and path.suffix == ".csv":
        raise ValueError(f"--output={path}: a CSV holds no embeddings; give a .parquet or .jsonl.")


def check_file(path: Path, *, setting: str) -> None:
    """Raises ValueError where no file can be written at the path."""
    if path.is_dir():
        raise ValueError(f"--{setting}={path} is a folder; give a file.")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise ValueError(f"--{setting}={path}: {above} is a file, not a folder.")


def open_table(path: Path, *, embedding_size: int = 0, said: Mapping[str, str] | None = None) -> Table:
    """A table with the columns `name`, `top5_labels`, `top5_scores`, `error` and, where asked for, `embedding`.

    Args:
        path: The ending decides: `.csv` (lists as JSON in the cell), `.parquet` (lists; embeddings float32 of fixed
            size), `.jsonl` (one object a line). Replaced where it exists.
        embedding_size: Width of the embeddings; 0 writes none.
        said: Kept in a Parquet file's metadata.

    Returns:
        Entered, it gives `write(rows)`. Left without an error, the file is complete; with one, it is not there.
    """
    return _TABLES[path.suffix](path, embedding_size, said or {})


@contextlib.contextmanager
def _csv_table(path: Path, embedding_size: int, said: Mapping[str, str]) -> Iterator[Write]:
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        write_cells = _cells_writer(file)
        write_cells(COLUMNS)

        def write(rows: Iterable[Row]) -> None:
            for row in rows:
                labels = json.dumps(row.top5_labels, ensure_ascii=False)
                write_cells((row.name, labels, json.dumps(row.top5_scores), row.error))

        yield write
        file.flush()


@contextlib.contextmanager
def _jsonl_table(path: Path, embedding_size: int, said: Mapping[str, str]) -> Iterator[Write]:
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:

        def write(rows: Iterable[Row]) -> None:
            for row in rows:
                told = {column: getattr(row, column) for column in COLUMNS}
                if embedding_size:
                    told["embedding"] = None if row.embedding is None else row.embedding.tolist()
                file.write(json.dumps(told) + "\n")  # in ASCII: no line end that only some readers see

        yield write
        file.flush()


@contextlib.contextmanager
def _parquet_table(path: Path, embedding_size: int, said: Mapping[str, str]) -> Iterator[Write]:
    lists = [("top5_labels", pa.list_(pa.string())), ("top5_scores", pa.list_(pa.float32()))]
    embedding = [("embedding", pa.list_(pa.float32(), embedding_size))] if embedding_size else []
    schema = pa.schema([("name", pa.string()), *lists, ("error", pa.string()), *embedding], metadata=dict(said))
    waiting: list[Row] = []
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:

        def write_group(rows: list[Row]) -> None:
            arrays = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

        def write(rows: Iterable[Row]) -> None:
            waiting.extend(rows)
            while len(waiting) >= _GROUP_ROWS:
                write_group(waiting[:_GROUP_ROWS])
                del waiting[:_GROUP_ROWS]

        yield write
        if waiting:
            write_group(waiting)


_TABLES = {".csv": _csv_table, ".parquet": _parquet_table, ".jsonl": _jsonl_table}


@contextlib.contextmanager
def open_submission(path: Path) -> Iterator[Write]:
    """What Kaggle's competition takes: a CSV with `name,class`, a row for every picture, also the unreadable."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        write_cells = _cells_writer(file)
        write_cells(("name", "class"))

        def write(rows: Iterable[Row]) -> None:
            for row in rows:
                write_cells((row.name, row.top1))

        yield write
        file.flush()


def _cells_writer(file) -> Callable[[Iterable[str]], None]:
    """Writes rows of a CSV, each ended by a line feed. A carriage return inside a cell is quoted as a line feed is."""
    plain, quoted = (csv.writer(file, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))

    def write(cells: Iterable[str]) -> None:
        cells = tuple(cells)
        (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)

    return write
