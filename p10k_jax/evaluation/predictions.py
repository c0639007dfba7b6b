"""A split to a table of predictions: one row an image, every image exactly once, on any number of hosts and devices."""

from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jax.experimental import multihost_utils
from jaxtyping import Array, Float, Int

from p10k_jax.data.augment import Views
from p10k_jax.data.batches import Batch, HostBatch, Loaded
from p10k_jax.models.functional import Model, Tree

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
PredictStep = Callable[[Tree, Tree, Batch], dict[str, Array]]


def make_predict_step(model: Model, views: Views, *, num_classes: int) -> PredictStep:
    """`(params, batch_stats, batch) -> rows`; jit it with replicated outputs, then every host sees all rows.

    Only the first `num_classes` logits count, where the head is wider than the data has classes.

    The rows: `index`, `label`, `group int32[b]`, `mask bool[b]`, `top_labels int32[b,k]`, `top_scores float32[b,k]`
    with k = min(5, number of classes); scores are softmax probabilities, descending, of equals the lower label first.
    """

    def predict_step(params: Tree, batch_stats: Tree, batch: Batch) -> dict[str, Array]:
        unused_keys = jax.random.split(jax.random.key(0), len(batch["image"]))
        images = views(unused_keys, batch["image"], batch["aspect"])
        outputs, _ = model.apply(params, batch_stats, images)
        labels, scores = top_classes(outputs.logits, num_classes)
        kept = {key: batch[key] for key in ("index", "label", "group", "mask")}
        return kept | {"top_labels": labels, "top_scores": scores}

    return predict_step


def top_classes(logits: Float[Array, "b c"], num_classes: int) -> tuple[Int[Array, "b k"], Float[Array, "b k"]]:
    """The k = min(5, `num_classes`) likeliest of the first `num_classes` classes and their softmax, descending."""
    # Ranked by the logits: of a sure model many probabilities are 0 in float32.
    _, labels = jax.lax.top_k(logits[:, :num_classes], min(TOP, num_classes))
    scores = jnp.take_along_axis(jax.nn.softmax(logits[:, :num_classes]), labels, axis=1)
    return labels.astype(jnp.int32), scores


def predict_split(
    step: PredictStep, params: Tree, batch_stats: Tree, batches: Iterable[Loaded], *, num_examples: int
) -> pa.Table:
    """Runs `step` over evaluation batches and collects the table, sorted by name.

    Raises:
        RuntimeError: an example is missing or counted twice.
    """
    rows: list[dict[str, np.ndarray]] = []
    texts: list[HostBatch] = []
    previous = None
    for batch in batches:
        result = step(params, batch_stats, batch.device)
        texts.append(batch.host)
        if previous is not None:  # fetched one step late: the device is never idle for the host
            rows.append(jax.device_get(previous))
        previous = result
    if previous is not None:
        rows.append(jax.device_get(previous))
    columns = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    columns = {key: values[columns["mask"]] for key, values in columns.items()}
    seen = np.bincount(columns["index"], minlength=num_examples)
    if len(seen) != num_examples or (seen != 1).any():
        wrong = np.flatnonzero(seen != 1)[:5].tolist()
        raise RuntimeError(f"Evaluation must count each of {num_examples} examples once; examples {wrong} are not.")
    names, usages = _texts_by_index(texts, num_examples)
    return _table(columns, names, usages)


def _table(columns: dict[str, np.ndarray], names: np.ndarray, usages: np.ndarray) -> pa.Table:
    index = columns["index"]
    arrays = [names[index], columns["label"], columns["group"], usages[index]]
    arrays += [list(columns["top_labels"]), list(columns["top_scores"])]
    table = pa.Table.from_arrays(
        [pa.array(a, field.type) for a, field in zip(arrays, SCHEMA, strict=True)], schema=SCHEMA
    )
    return table.sort_by("name")


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


def read_predictions(path: Path) -> pa.Table:
    """Reads a `predictions.parquet`. Raises ValueError if the columns are not a predictions table's."""
    table = pq.read_table(path)
    if table.schema.names != SCHEMA.names:
        raise ValueError(f"{path} has columns {table.schema.names}, a predictions table has {SCHEMA.names}.")
    return table
