"""Prepared split to global batches on the mesh.

The host decodes the rows that its own devices hold, and nothing else, or copies them out of a split that was decoded
once (`p10k_jax.data.decoded`): the batches are the same. A batch is a pure function of its number:
resuming means starting the range elsewhere, and no iterator state is ever saved.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

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
    """Chunk number -> decoded rows; what threads and workers run."""

    split: Split
    chunks: tuple[np.ndarray, ...]
    batch_size: int
    canvas_size: int
    order: Order

    def __call__(self, number: int) -> HostBatch:
        step, chunk = divmod(int(number), len(self.chunks))
        images = self.empty(len(self.chunks[chunk]))
        return {"image": images} | self.fill(step, self.chunks[chunk], images)

    def empty(self, rows: int) -> np.ndarray:
        return np.empty((rows, self.canvas_size, self.canvas_size, 3), np.uint8)

    def fill(self, step: int, chunk: np.ndarray, images: np.ndarray) -> HostBatch:
        """Decodes rows of a batch into `images`; returns all else of them."""
        indices, mask = self.order(step * self.batch_size + chunk)
        rows = len(indices)
        out = {
            "aspect": np.ones(rows, np.float32),
            "label": np.zeros(rows, np.int32),
            "group": np.zeros(rows, np.int32),
            "index": indices.astype(np.int32),
            "mask": mask,
            "rung": np.zeros(rows, np.int8),
        }
        images[~mask] = 0
        names, usages = [""] * rows, [""] * rows
        for row in np.flatnonzero(mask):
            example = self.split.read(int(indices[row]))
            names[row], usages[row] = example.name, example.usage
            out["label"][row], out["group"][row] = example.label, example.group
            out["aspect"][row], out["rung"][row] = decode_canvas(example.image, images[row])
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
    if loading.workers:
        yield from _in_workers(loader, steps, loading)
        return

    def start(step: int, pool: ThreadPoolExecutor) -> tuple[HostBatch, list[Future]]:
        images = loader.empty(len(rows))  # each thread decodes to where the batch has its rows: nothing is copied
        parts = [images[i : i + _CHUNK_ROWS] for i in range(0, len(rows), _CHUNK_ROWS)]
        tasks = [pool.submit(loader.fill, step, *part) for part in zip(chunks, parts, strict=True)]
        return {"image": images}, tasks

    for batch, columns in _started_ahead(start, steps, loading):
        yield batch | _concatenated(columns)


def gathered_batches(
    decoded: Decoded, *, rows: np.ndarray, batch_size: int, steps: range, loading: Loading, order: Order
) -> Iterator[HostBatch]:
    """As `host_batches`, of a decoded split: the rows of `loading.ahead` batches are copied ahead, in its threads."""

    def start(step: int, pool: ThreadPoolExecutor) -> tuple[HostBatch, list[Future]]:
        return decoded.start_rows(*order(step * batch_size + rows), pool)

    for batch, _ in _started_ahead(start, steps, loading):
        yield batch


def _started_ahead(
    start: Callable[[int, ThreadPoolExecutor], tuple[HostBatch, list[Future]]], steps: range, loading: Loading
) -> Iterator[tuple[HostBatch, list[Any]]]:
    """What `start` gave for each step with the results of its tasks, `loading.ahead` batches started before."""
    with ThreadPoolExecutor(loading.threads, thread_name_prefix="pixels") as pool:
        started = collections.deque()
        try:
            for step in steps:
                started.append(start(step, pool))
                if len(started) > max(1, loading.ahead):
                    yield _finished(*started.popleft())
            while started:
                yield _finished(*started.popleft())
        finally:  # left early: what has not begun is not waited for
            pool.shutdown(wait=False, cancel_futures=True)


def _finished(batch: HostBatch, tasks: list[Future]) -> tuple[HostBatch, list[Any]]:
    return batch, [task.result() for task in tasks]


def _concatenated(parts: list[HostBatch]) -> HostBatch:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _in_workers(loader: _ChunkLoader, steps: range, loading: Loading) -> Iterator[HostBatch]:
    from absl import flags

    if not flags.FLAGS.is_parsed():  # Grain reads absl's flags, which nobody parses in a notebook (grain#1355)
        flags.FLAGS.mark_as_parsed()
    chunks, ahead = len(loader.chunks), max(1, loading.ahead) * len(loader.chunks)
    numbers = grain.MapDataset.range(steps.start * chunks, steps.stop * chunks)
    read = grain.ReadOptions(num_threads=loading.threads, prefetch_buffer_size=ahead)
    processes = grain.MultiprocessingOptions(
        num_workers=loading.workers, per_worker_buffer_size=-(-loading.ahead * chunks // loading.workers)
    )
    pending = []
    for part in numbers.map(loader).to_iter_dataset(read).mp_prefetch(processes):
        pending.append(part)
        if len(pending) == chunks:
            yield _concatenated(pending)
            pending = []


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
