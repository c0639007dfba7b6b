"""Prepared split to global batches on the mesh.

The host decodes the rows that its own devices hold, and nothing else, or copies them out of a split that was decoded
once (`p10k_jax.data.decoded`): the batches are the same. A batch is a pure function of its number:
resuming means starting the range elsewhere, and no iterator state is ever saved.
"""

import collections
import dataclasses
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding

from p10k_jax.data.decode import DecodeReport, decode_canvas
from p10k_jax.data.decoded import Decoded
from p10k_jax.data.order import Order
from p10k_jax.data.splits import Split

Batch = dict[str, jax.Array]
HostBatch = dict[str, np.ndarray]

# Rows decoded by one thread at a time: small enough that the first batch comes soon, large enough that handing work
# to a thread costs nothing beside it.
_CHUNK_ROWS = 16

_ON_DEVICE = ("image", "aspect", "label", "group", "index", "mask")


class Loading(NamedTuple):
    """How a host decodes; none of it changes what is in a batch.

    Attributes:
        threads: Decoding threads in each process.
        workers: Worker processes; 0 decodes in this one. Threads scale well, for the decoders release the
            interpreter lock; workers help above about 30 cores.
        ahead: Batches decoded ahead of the step.
    """

    threads: int
    workers: int = 0
    ahead: int = 2


def evaluation_steps(num_examples: int, batch_size: int) -> int:
    """Number of batches that hold every example once."""
    return -(-num_examples // batch_size)


def local_rows(sharding: NamedSharding, batch_size: int) -> np.ndarray:
    """The rows of a global batch that this process's devices hold: sorted int64[n], no row twice."""
    rows = set()
    for (rows_slice,) in sharding.addressable_devices_indices_map((batch_size,)).values():
        rows.update(range(*rows_slice.indices(batch_size)))
    return np.array(sorted(rows), np.int64)


def check_divides(batch_size: int, sharding: NamedSharding, *, parts: int = 1) -> None:
    """Raises ValueError if the mesh does not divide every part of the batch, with the nearest sizes that it divides."""
    devices = sharding.num_devices
    shards = devices // sharding.shard_shape((devices,))[0]
    pieces = shards * max(1, parts)
    if batch_size < 1 or batch_size % pieces:
        near = max(1, batch_size // pieces) * pieces
        taken = f", taken in {parts} parts," if parts > 1 else ""
        raise ValueError(
            f"batch_size={batch_size}{taken} does not divide over the {shards} batch shards of the mesh "
            f"{dict(sharding.mesh.shape)}; try {near} or {near + pieces}."
        )


@dataclasses.dataclass(frozen=True)
class _ChunkLoader:
    """Chunk number -> decoded rows; what Grain runs in its threads and workers."""

    split: Split
    chunks: tuple[np.ndarray, ...]
    batch_size: int
    canvas_size: int
    order: Order

    def __call__(self, number: int) -> HostBatch:
        step, chunk = divmod(int(number), len(self.chunks))
        indices, mask = self.order(step * self.batch_size + self.chunks[chunk])
        rows = len(indices)
        out = {
            "image": np.zeros((rows, self.canvas_size, self.canvas_size, 3), np.uint8),
            "aspect": np.ones(rows, np.float32),
            "label": np.zeros(rows, np.int32),
            "group": np.zeros(rows, np.int32),
            "index": indices.astype(np.int32),
            "mask": mask,
            "rung": np.zeros(rows, np.int8),
        }
        names, usages = [""] * rows, [""] * rows
        for row in np.flatnonzero(mask):
            example = self.split.read(int(indices[row]))
            names[row], usages[row] = example.name, example.usage
            out["label"][row], out["group"][row] = example.label, example.group
            out["aspect"][row], out["rung"][row] = decode_canvas(example.image, out["image"][row])
        return out | {"name": np.array(names, np.str_), "usage": np.array(usages, np.str_)}


def host_batches(
    split: Split,
    *,
    rows: np.ndarray,
    batch_size: int,
    canvas_size: int,
    steps: range,
    loading: Loading,
    order: Order,
) -> Iterator[HostBatch]:
    """The given rows of the global batches `steps`, decoded.

    Args:
        split: What to read.
        rows: int64[n], rows of the global batch, as `local_rows` gives them.
        batch_size: Global.
        canvas_size: Side of the square canvas in pixels.
        steps: Batch numbers, a range with step 1.
        loading: How to decode.
        order: Which example stands at which place.

    Yields:
        `image uint8[n,s,s,3]`, `aspect float32[n]` (width / height), `label`, `group`, `index int32[n]`,
        `mask bool[n]`, `rung int8[n]` (see `decode.RUNGS`), `name` and `usage` str[n].
    """
    chunks = tuple(rows[i : i + _CHUNK_ROWS] for i in range(0, len(rows), _CHUNK_ROWS))
    loader = _ChunkLoader(split, chunks, batch_size, canvas_size, order)
    chunk_numbers = grain.MapDataset.range(steps.start * len(chunks), steps.stop * len(chunks))
    read = grain.ReadOptions(num_threads=loading.threads, prefetch_buffer_size=max(1, loading.ahead) * len(chunks))
    decoded = chunk_numbers.map(loader).to_iter_dataset(read)
    if loading.workers:
        decoded = _in_workers(decoded, loading.workers, per_worker=-(-loading.ahead * len(chunks) // loading.workers))
    pending = []
    for part in decoded:
        pending.append(part)
        if len(pending) == len(chunks):
            yield {key: np.concatenate([p[key] for p in pending]) for key in part}
            pending = []


def gathered_batches(
    decoded: Decoded, *, rows: np.ndarray, batch_size: int, steps: range, loading: Loading, order: Order
) -> Iterator[HostBatch]:
    """As `host_batches`, of a decoded split: the rows of `loading.ahead` batches are copied ahead, in its threads."""
    with ThreadPoolExecutor(loading.threads, thread_name_prefix="pixels") as pool:
        started = collections.deque()
        for step in steps:
            started.append(decoded.start_rows(*order(step * batch_size + rows), pool))
            if len(started) > max(1, loading.ahead):
                yield _finished(*started.popleft())
        while started:
            yield _finished(*started.popleft())


def _finished(batch: HostBatch, copies: list[Future]) -> HostBatch:
    for copy in copies:
        copy.result()
    return batch


def _in_workers(dataset: grain.IterDataset, workers: int, per_worker: int) -> grain.IterDataset:
    from absl import flags

    if not flags.FLAGS.is_parsed():  # Grain reads absl's flags, which nobody parses in a notebook (grain#1355)
        flags.FLAGS.mark_as_parsed()
    return dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=per_worker))


def abstract_batch(batch_size: int, canvas_size: int, sharding: NamedSharding) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the device part of a global batch."""
    dtypes = {"image": np.uint8, "aspect": np.float32, "mask": np.bool_}
    pixels = {"image": (canvas_size, canvas_size, 3)}
    return {
        key: jax.ShapeDtypeStruct((batch_size, *pixels.get(key, ())), dtypes.get(key, np.int32), sharding=sharding)
        for key in _ON_DEVICE
    }


class Loaded(NamedTuple):
    """A batch on the mesh, and what of it stays on the host: names and usages of this process's rows."""

    device: Batch
    host: HostBatch


def global_batches(
    split: Split,
    *,
    sharding: NamedSharding,
    batch_size: int,
    canvas_size: int,
    steps: range,
    loading: Loading,
    order: Order,
    report: DecodeReport,
    decoded: Decoded | None = None,
) -> Iterator[Loaded]:
    """`host_batches` as global arrays, the transfer started one batch ahead; `report` counts what was met.

    Args:
        split, batch_size, canvas_size, steps, loading, order: As for `host_batches`.
        sharding: Of the batch.
        report: Is added to.
        decoded: Where the split was decoded, with canvases of that size: nothing is decoded then.

    Raises:
        ValueError: the mesh does not divide `batch_size`, or the canvases have another size.
    """
    check_divides(batch_size, sharding)
    rows = local_rows(sharding, batch_size)
    common = {"rows": rows, "batch_size": batch_size, "steps": steps, "loading": loading, "order": order}
    if decoded is None:
        batches = host_batches(split, canvas_size=canvas_size, **common)
    elif (decoded.canvas_size, len(decoded)) == (canvas_size, len(split)):
        batches = gathered_batches(decoded, **common)
    else:
        raise ValueError(
            f"{decoded.folder} holds {len(decoded):,} canvases of {decoded.canvas_size} pixels, not {len(split):,} of "
            f"{canvas_size}."
        )
    started = collections.deque()
    for batch in batches:
        real = batch["mask"]
        report.add(batch["rung"][real], batch["name"][real].tolist())
        device = {key: global_array(batch[key], rows, sharding, batch_size) for key in _ON_DEVICE}
        started.append(Loaded(device, {key: batch[key] for key in ("index", "mask", "name", "usage")}))
        if len(started) > 1:
            yield started.popleft()
    yield from started


def global_array(local: np.ndarray, rows: np.ndarray, sharding: NamedSharding, batch_size: int) -> jax.Array:
    """This process's rows, in the order of `rows`, as its part of an array of `batch_size` rows."""

    def shard(index: tuple[slice, ...]) -> np.ndarray:
        start, stop, _ = index[0].indices(batch_size)
        first = np.searchsorted(rows, start)
        return local[first : first + stop - start]

    return jax.make_array_from_callback((batch_size, *local.shape[1:]), sharding, shard)
