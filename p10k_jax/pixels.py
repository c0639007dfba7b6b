"""Where a run's pixels come from: which threads decode, whether a split is decoded once, and where it then lies."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import tensorflow_datasets as tfds
from jax.sharding import Mesh
from ml_collections import ConfigDict

from p10k_jax.data import residency
from p10k_jax.data.batches import Loaded, Loading, global_batches
from p10k_jax.data.decode import DecodeReport
from p10k_jax.data.decoded import Decoded, can_write, decoded_bytes, decoded_folder, ensure_decoded, find_decoded
from p10k_jax.data.order import Order
from p10k_jax.data.resident import index_batches, num_shards, shard_bytes
from p10k_jax.data.splits import Split, data_fingerprint
from p10k_jax.hosts import gather
from p10k_jax.reporting.progress import Console
from p10k_jax.training.duration import run_steps
from p10k_jax.training.mesh import batch_sharding
from tfds_builder.disk import free_bytes
from tfds_builder.processing import available_cores


def loading(config: ConfigDict) -> Loading:
    """How this host decodes: one thread a core, shared among the workers."""
    workers = config.data.workers
    threads = config.data.threads or -(-available_cores() // max(1, workers))
    return Loading(threads=threads, workers=workers)


def choose_residency(config: ConfigDict, builder: tfds.core.DatasetBuilder, splits: Sequence[Split], mesh: Mesh) -> str:
    """Resolves `data.residency`; the same on every host.

    Args:
        config: Otherwise resolved.
        builder: Of the data.
        splits: That the run reads: first the one it trains on.
        mesh: Of the run.

    Returns:
        What was chosen and why, in a line.

    Raises:
        ValueError: an unknown name, or more than a device holds.
    """
    size, data_dir = config.data.canvas_size, Path(builder.data_dir)
    bytes_of = {_folder(config, builder, split): decoded_bytes(len(split), size) for split in splits}
    sizes = {"batch_size": config.batch_size, "num_examples": len(splits[0])}
    room = residency.Room(
        canvases=sum(bytes_of.values()),
        missing=sum(needed for folder, needed in bytes_of.items() if find_decoded(folder) is None),
        writable=can_write(data_dir),
        disk=free_bytes(data_dir),
        memory=residency.host_memory(),
        shard=shard_bytes(len(splits[0]), size, num_shards(batch_sharding(mesh))),
        device=(jax.local_devices()[0].memory_stats() or {}).get("bytes_limit"),
        epochs=run_steps(config.duration, **sizes) * config.batch_size / len(splits[0]),
    )
    chosen, reason = residency.choose(config.data.residency, room)
    # The step is another where the pixels are on the devices.
    lowest = residency.RESIDENCIES[gather(residency.RESIDENCIES.index(chosen)).min()]
    if lowest != chosen:
        chosen, reason = lowest, f"pixels: {lowest}, as another host must"
    with config.unlocked():
        config.data.residency = chosen
    return reason


def _folder(config: ConfigDict, builder: tfds.core.DatasetBuilder, split: Split) -> Path:
    return decoded_folder(
        Path(builder.data_dir), split, fingerprint=data_fingerprint(builder), canvas_size=config.data.canvas_size
    )


def decoded(config: ConfigDict, builder: tfds.core.DatasetBuilder, split: Split) -> Decoded | None:
    """The split's canvases, decoded first if need be; None where the run streams. Raises as `ensure_decoded`."""
    if config.data.residency == "stream":
        return None
    console = Console()
    return ensure_decoded(
        Path(builder.data_dir),
        split,
        fingerprint=data_fingerprint(builder),
        canvas_size=config.data.canvas_size,
        progress=lambda done, total: console.live(
            f"decoding {split.name} once: {done:,} of {total:,} pictures", final=done == total
        ),
    )


def decoded_before(config: ConfigDict, builder: tfds.core.DatasetBuilder, split: Split) -> Decoded | None:
    """The split's canvases where they lie there already and the run did not ask to stream."""
    if config.data.get("residency", "stream") == "stream":
        return None
    return find_decoded(_folder(config, builder, split))


def training_batches(
    config: ConfigDict,
    split: Split,
    canvases: Decoded | None,
    mesh: Mesh,
    *,
    order: Order,
    steps: range,
    report: DecodeReport,
    with_images: bool = False,
) -> Iterator[Loaded]:
    """The batches `steps` of a resolved config; where the split is on the devices, indices alone, unless told else."""
    common = {"sharding": batch_sharding(mesh), "batch_size": config.batch_size, "steps": steps, "order": order}
    if config.data.residency == "device" and not with_images:
        report.add(canvases.rung, canvases.name.tolist())
        return index_batches(**common)
    return global_batches(
        split,
        canvas_size=config.data.canvas_size,
        loading=loading(config),
        report=report,
        decoded=canvases,
        **common,
    )
