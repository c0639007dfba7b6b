"""A split to a table of predictions: one row an image, every image exactly once, on any number of hosts and devices."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jax.experimental import multihost_utils
from jaxtyping import Array, Float

from p10k_jax.data.augment import Views
from p10k_jax.data.batches import Batch, HostBatch, Loaded
from p10k_jax.evaluation.metrics import metrics
from p10k_jax.evaluation.neighbours import Gallery, search
from p10k_jax.files import write_json
from p10k_jax.models.functional import Model, Tree
from p10k_jax.models.heads import unit

TOP = 5
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("label", pa.int32()),
        ("group", pa.int32()),
        ("usage", pa.string()),
        ("top5_labels", pa.list_(pa.int32())),
        ("top5_scores", pa.list_(pa.float32())),
    ]
)
PredictStep = Callable[..., dict[str, Array]]


def make_predict_step(
    model: Model, views: Sequence[Views], *, num_classes: int, embed: bool = False, neighbours: int = 0
) -> PredictStep:
    """`(params, batch_stats, batch) -> rows`; jit it with replicated outputs, then every host sees all rows.

    Only the first `num_classes` logits count, where the head is wider than the data has classes. Of several views, the
    softmax probabilities are averaged, and so are the embeddings made unit (test-time augmentation; Krizhevsky et al.,
    NeurIPS 2012).

    The rows: `index`, `label`, `group int32[b]`, `mask bool[b]`, `top_labels int32[b,k]`, `top_scores float32[b,k]`
    with k = min(5, number of classes); scores are softmax probabilities, descending, of equals the lower label first.

    Args:
        model: What predicts.
        views: What it sees of a picture, one after the other.
        num_classes: Of the data.
        embed: The rows also hold `embedding float32[b,d]`: of one view as the classifier sees it.
        neighbours: Above 0, the step takes `gallery=Gallery` too, and the rows hold of that many nearest by embedding
            `neighbours int32[b,n]` and `similarities float32[b,n]` (see `neighbours.search`), and in
            `neighbour_scores float32[b,n]` the probabilities of their classes, all that fusion wants.
    """

    def predict_step(params: Tree, batch_stats: Tree, batch: Batch, *, gallery: Gallery | None = None):
        unused_keys = jax.random.split(jax.random.key(0), len(batch["image"]))
        probabilities, embeddings = [], []
        for view in views:
            outputs, _ = model.apply(params, batch_stats, view(unused_keys, batch["image"], batch["aspect"]))
            probabilities.append(jax.nn.softmax(outputs.logits[:, :num_classes]))
            embeddings.append(unit(outputs.embedding) if len(views) > 1 else outputs.embedding)
        probability, embedding = _mean(probabilities), _mean(embeddings)
        scores, labels = jax.lax.top_k(probability, min(TOP, num_classes))
        rows = {key: batch[key] for key in ("index", "label", "group", "mask")}
        rows |= {"top_labels": labels.astype(jnp.int32), "top_scores": scores}
        if embed:
            rows["embedding"] = embedding
        if neighbours:
            places, similarities = search(embedding, gallery, neighbours)
            of_class = jnp.take_along_axis(probability, gallery.labels[places], axis=1)
            rows |= {"neighbours": places, "similarities": similarities, "neighbour_scores": of_class}
        return rows

    return predict_step


def _mean(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else sum(arrays[1:], arrays[0]) / len(arrays)


class Predictions(NamedTuple):
    """What a pass over a split gives.

    Attributes:
        table: A row an image, sorted by name.
        more: By name of the step's rows, what they hold beyond the table, in its order.
    """

    table: pa.Table
    more: dict[str, np.ndarray]


def predict_split(
    step: PredictStep, params: Tree, batch_stats: Tree, batches: Iterable[Loaded], *, num_examples: int
) -> Predictions:
    """Runs `step` over evaluation batches and collects its rows, sorted by name.

    Raises:
        RuntimeError: an example is missing or counted twice.
    """
    columns: dict[str, np.ndarray] = {}
    seen = np.zeros(num_examples, np.int64)
    texts: list[HostBatch] = []
    previous = None
    for batch in batches:
        result = step(params, batch_stats, batch.device)
        texts.append(batch.host)
        if previous is not None:  # fetched one step late: the device is never idle for the host
            _place(jax.device_get(previous), columns, seen)
        previous = result
    if previous is not None:
        _place(jax.device_get(previous), columns, seen)
    if (seen != 1).any():
        raise _miscounted(num_examples, np.flatnonzero(seen != 1))
    names, usages = _texts_by_index(texts, num_examples)
    table = _table(columns, names, usages)
    order = pc.sort_indices(table, [("name", "ascending")]).to_numpy()
    more = {key: values[order] for key, values in columns.items() if key not in _IN_TABLE}
    return Predictions(table.take(order), more)


_IN_TABLE = ("label", "group", "top_labels", "top_scores")


def _miscounted(num_examples: int, wrong: np.ndarray) -> RuntimeError:
    return RuntimeError(
        f"Evaluation must count each of {num_examples} examples once; examples {wrong[:5].tolist()} are not."
    )


def _place(rows: dict[str, np.ndarray], columns: dict[str, np.ndarray], seen: np.ndarray) -> None:
    """Puts the real rows of a batch where their example has its place, and counts them."""
    real = rows["mask"]
    index = rows["index"][real]
    if (outside := index[index >= len(seen)]).size:
        raise _miscounted(len(seen), outside)
    np.add.at(seen, index, 1)
    for key, values in rows.items():
        if key not in ("index", "mask"):
            column = columns.setdefault(key, np.empty((len(seen), *values.shape[1:]), values.dtype))
            column[index] = values[real]


def _table(columns: dict[str, np.ndarray], names: np.ndarray, usages: np.ndarray) -> pa.Table:
    arrays = [names, columns["label"], columns["group"], usages]
    arrays += [list(columns["top_labels"]), list(columns["top_scores"])]
    return pa.Table.from_arrays(
        [pa.array(a, field.type) for a, field in zip(arrays, SCHEMA, strict=True)], schema=SCHEMA
    )


def with_predictions(table: pa.Table, labels: np.ndarray, scores: np.ndarray) -> pa.Table:
    """The same images with other predictions: labels int32[n,k] and scores float32[n,k], the first first."""
    columns = [list(labels), list(scores)]
    for place, values in zip((4, 5), columns, strict=True):
        table = table.set_column(place, SCHEMA[place], pa.array(values, SCHEMA[place].type))
    return table


def _texts_by_index(texts: list[HostBatch], num_examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Names and usages of all examples, by example index; each host knows those of its own rows."""
    masks = [text["mask"] for text in texts]
    local = {
        key: np.concatenate([text[key][mask] for text, mask in zip(texts, masks, strict=True)])
        for key in ("index", "name", "usage")
    }
    gathered = gather_hosts(local) if jax.process_count() > 1 else [local]
    names, usages = np.full(num_examples, "", object), np.full(num_examples, "", object)
    for host in gathered:
        names[host["index"]], usages[host["index"]] = host["name"], host["usage"]
    return names, usages


def gather_hosts(local: HostBatch) -> list[HostBatch]:
    """Every host's `index int[n]`, `name` and `usage str[n]` on every host; n may differ between hosts."""
    encoded = {key: np.char.encode(local[key], "utf-8") for key in ("name", "usage")}
    sizes = np.array([len(local["index"]), encoded["name"].itemsize, encoded["usage"].itemsize])
    rows, *widths = multihost_utils.process_allgather(sizes).reshape(-1, 3).max(axis=0)
    index = np.full(rows, -1, np.int32)
    index[: len(local["index"])] = local["index"]
    parts = {"index": index}
    for (key, values), width in zip(encoded.items(), widths, strict=True):
        padded = np.zeros(rows, f"S{width}")
        padded[: len(values)] = values
        parts[key] = padded.view(np.uint8).reshape(rows, width)
    everyone = multihost_utils.process_allgather(parts)
    hosts = []
    for process in range(jax.process_count()):
        real = everyone["index"][process] >= 0
        host = {"index": everyone["index"][process][real]}
        for key in encoded:
            raw = np.ascontiguousarray(everyone[key][process][real])
            host[key] = np.char.decode(raw.view(f"S{raw.shape[1]}")[:, 0], "utf-8")
        hosts.append(host)
    return hosts


def write_table(path: Path, table: pa.Table, said: Mapping[str, Any], **how) -> None:
    """Writes Parquet whole or not at all, `said` in the schema's metadata; `how` goes to Parquet's writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".incomplete")
    metadata = {key: str(value) for key, value in said.items()}
    pq.write_table(table.replace_schema_metadata(metadata), temporary, **how)
    temporary.replace(path)


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
    table = pq.read_table(path)
    if table.schema.names != ["name", "embedding"]:
        raise ValueError(f"{path} has columns {table.schema.names}, embeddings have ['name', 'embedding'].")
    column = table["embedding"].combine_chunks()
    return table["name"].to_pylist(), column.flatten().to_numpy().reshape(len(column), -1)


def write_evaluation(folder: Path, table: pa.Table, *, step: int, **settings: Any) -> dict[str, float | int]:
    """Writes `predictions.parquet` and `metrics.json`, each whole or not at all, and returns the figures.

    Both say the checkpoint's step and with which settings it was evaluated: the table in its schema's metadata, the
    figures beside the others.
    """
    said = {"step": step} | settings
    write_table(folder / "predictions.parquet", table, said)
    figures = metrics(table) | said
    write_json(folder / "metrics.json", figures)
    return figures


def read_predictions(path: Path) -> pa.Table:
    """Reads what `write_evaluation` wrote. Raises ValueError if the columns are not a predictions table's."""
    table = pq.read_table(path)
    if table.schema.names != SCHEMA.names:
        raise ValueError(f"{path} has columns {table.schema.names}, a predictions table has {SCHEMA.names}.")
    return table
