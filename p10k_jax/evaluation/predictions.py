"""A split to a table of predictions: one row an image, every image exactly once, on any number of hosts and devices."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from p10k_jax.data.augment import Views
from p10k_jax.data.batches import Batch, HostBatch, Loaded
from p10k_jax.evaluation.neighbours import Gallery, search
from p10k_jax.models.functional import Model, Tree
from p10k_jax.models.heads import unit
from p10k_jax.parquet import read_parquet
from p10k_jax.training.mesh import array_split

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
    model: Model,
    views: Sequence[Views],
    *,
    num_classes: int,
    embed: bool = False,
    neighbours: int = 0,
    mesh: Mesh | None = None,
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
        mesh: That the step runs on; see `top_classes`.
    """

    def predict_step(params: Tree, batch_stats: Tree, batch: Batch, *, gallery: Gallery | None = None):
        unused_keys = jax.random.split(jax.random.key(0), len(batch["image"]))
        logits, embeddings = [], []
        for view in views:
            outputs, _ = model.apply(params, batch_stats, view(unused_keys, batch["image"], batch["aspect"]))
            logits.append(_of_classes(outputs.logits, num_classes))
            embeddings.append(unit(outputs.embedding) if len(views) > 1 else outputs.embedding)
        averaged = logits_of_mean(logits)
        embedding = embeddings[0] if len(views) == 1 else sum(embeddings) / len(views)
        labels, scores = top_classes(averaged, num_classes, mesh=mesh)
        rows = {key: batch[key] for key in ("index", "label", "group", "mask")}
        rows |= {"top_labels": labels, "top_scores": scores}
        if embed:
            rows["embedding"] = embedding
        if neighbours:
            places, similarities = search(embedding, gallery, neighbours)
            of_class = jnp.take_along_axis(jax.nn.softmax(averaged), gallery.labels[places], axis=1)
            rows |= {"neighbours": places, "similarities": similarities, "neighbour_scores": of_class}
        return rows

    return predict_step


def top_classes(
    logits: Float[Array, "b c"], num_classes: int, *, mesh: Mesh | None = None
) -> tuple[Int[Array, "b k"], Float[Array, "b k"]]:
    """The k = min(5, `num_classes`) likeliest of the first `num_classes` classes and their softmax, descending.

    Of equals the lower label comes first. On a mesh every device searches the rows and the classes that it has.
    """
    logits = _of_classes(logits, num_classes)
    # Ranked by the logits: of a sure model many probabilities are 0 in float32.
    highest, labels = _top(logits, min(TOP, num_classes), mesh)
    scale = jnp.exp(logits - highest[:, :1]).sum(axis=1, keepdims=True)
    return labels.astype(jnp.int32), jnp.exp(highest - highest[:, :1]) / scale


def _of_classes(logits: Float[Array, "b c"], num_classes: int) -> Float[Array, "b c"]:
    """The logits with minus infinity beyond the classes; not cut, for that would move what is split over devices."""
    width = logits.shape[1]
    return logits if width == num_classes else jnp.where(jnp.arange(width) < num_classes, logits, -jnp.inf)


def _top(logits: Float[Array, "b c"], k: int, mesh: Mesh | None) -> tuple[Float[Array, "b k"], Int[Array, "b k"]]:
    """The k highest of each row and where they stand."""
    if mesh is None:
        return jax.lax.top_k(logits, k)
    # An island, for `jit` alone would bring all logits to every device to sort them.
    split = array_split(logits, mesh, columns="model")
    width = split.shard_shape(logits.shape)[1]

    def of_device(part: Float[Array, "r w"]) -> tuple[Float[Array, "r n"], Int[Array, "r n"]]:
        values, places = jax.lax.top_k(part, min(k, width))
        first = jax.lax.axis_index("model") * width if width < logits.shape[1] else 0
        return values, places + first

    found = jax.shard_map(of_device, mesh=mesh, in_specs=split.spec, out_specs=(split.spec, split.spec))(logits)
    values, chosen = jax.lax.top_k(found[0], k)
    return values, jnp.take_along_axis(found[1], chosen, axis=1)


def logits_of_mean(logits: Sequence[Float[Array, "b c"]]) -> Float[Array, "b c"]:
    """Logits whose softmax is the mean of theirs, so that classes rank where probabilities are 0 in float32 too."""
    if len(logits) == 1:
        return logits[0]
    return jax.nn.logsumexp(jnp.stack([jax.nn.log_softmax(one) for one in logits]), axis=0) - math.log(len(logits))


class Predictions(NamedTuple):
    """What a pass over a split gives.

    Attributes:
        table: A row an image, sorted by name.
        index: int64[n], which record of the split each row is of.
        more: By name of the step's rows, what they hold beyond the table, in its order.
    """

    table: pa.Table
    index: Int[np.ndarray, " n"]
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
    return Predictions(table.take(order), order.astype(np.int64), more)


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
            if key not in columns:
                columns[key] = np.empty((len(seen), *values.shape[1:]), values.dtype)
            columns[key][index] = values[real]


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


def read_predictions(path: Path) -> pa.Table:
    """Reads a `predictions.parquet`.

    Raises:
        ValueError: no such file, other columns, a row without a prediction or with more scores than labels.
    """
    table = read_parquet(path, SCHEMA, "evaluate anew")
    labels, scores = (pc.list_value_length(table[name]) for name in ("top5_labels", "top5_scores"))
    if not pc.all(pc.equal(labels, scores)).as_py() or (pc.min(labels).as_py() or 0) < min(1, len(table)):
        raise ValueError(f"{path} has a row without predictions, or with other scores than labels; evaluate anew.")
    return table
