"""A decoded split in the memory of the accelerators, and the rows of a batch out of it, inside the jitted step.

The images are split over the batch axes of the mesh. A batch draws its rows from everywhere, so each device picks those
that lie in its shard, and one reduce-scatter brings every row to the device that works on it. All a host sends is which
rows: 4 bytes an image.
"""

import collections
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float32, Int32, UInt8

from p10k_jax.data.batches import Batch, Loaded, check_divides, global_array, local_rows
from p10k_jax.data.decoded import Decoded
from p10k_jax.data.order import Order

_AHEAD = 2  # batches whose indices are sent before they are asked for


class Resident(NamedTuple):
    """A split on the devices, a pytree.

    Attributes:
        images: uint8[M, s*s*3], whole pictures as rows, split over the batch axes; M is the number of examples, padded
            to a multiple of the shards. (With an axis of 3 channels last, a TPU would pad each pixel to a lane row.)
        aspect, label, group: Of all N examples, whole on every device.
    """

    images: UInt8[Array, "M k"]
    aspect: Float32[Array, " N"]
    label: Int32[Array, " N"]
    group: Int32[Array, " N"]


def num_shards(sharding: NamedSharding) -> int:
    """Into how many parts a batch, and a resident split, is cut."""
    return math.prod(sharding.mesh.shape[axis] for axis in _axes(sharding))


def shard_bytes(num_examples: int, canvas_size: int, shards: int) -> int:
    """Bytes of the images that each device holds."""
    return -(-num_examples // shards) * canvas_size**2 * 3


def abstract_resident(num_examples: int, canvas_size: int, sharding: NamedSharding) -> Resident:
    """Shapes and shardings of `place`.

    Args:
        num_examples, canvas_size: Of the split.
        sharding: Of a batch; its axes split the images too.
    """
    whole = NamedSharding(sharding.mesh, P())
    shards = num_shards(sharding)
    rows = -(-num_examples // shards) * shards
    columns = [
        jax.ShapeDtypeStruct((num_examples,), dtype, sharding=whole) for dtype in (np.float32, np.int32, np.int32)
    ]
    return Resident(jax.ShapeDtypeStruct((rows, canvas_size**2 * 3), np.uint8, sharding=sharding), *columns)


def place(decoded: Decoded, sharding: NamedSharding) -> Resident:
    """Reads each shard that this process's devices hold out of the memory map, and sends it there."""
    shapes = abstract_resident(len(decoded), decoded.canvas_size, sharding)
    images = decoded.images.reshape(len(decoded), -1)

    def shard(index: tuple[slice, ...]) -> np.ndarray:
        start, stop, _ = index[0].indices(len(shapes.images))
        part = images[start:stop]
        missing = stop - start - len(part)
        return np.pad(part, ((0, missing), (0, 0))) if missing else part

    def column(values: np.ndarray, shape: jax.ShapeDtypeStruct) -> Array:
        return jax.make_array_from_callback(shape.shape, shape.sharding, values.__getitem__)

    return Resident(
        jax.make_array_from_callback(shapes.images.shape, sharding, shard),
        column(decoded.aspect, shapes.aspect),
        column(decoded.label, shapes.label),
        column(decoded.group, shapes.group),
    )


def abstract_indices(batch_size: int, sharding: NamedSharding) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of what `index_batches` sends."""
    return {
        key: jax.ShapeDtypeStruct((batch_size,), dtype, sharding=sharding)
        for key, dtype in {"index": np.int32, "mask": np.bool_}.items()
    }


def index_batches(*, sharding: NamedSharding, batch_size: int, steps: range, order: Order) -> Iterator[Loaded]:
    """As `batches.global_batches`, but `index` and `mask` alone: `fetch` makes the whole batch of them.

    Raises:
        ValueError: the mesh does not divide `batch_size`.
    """
    check_divides(batch_size, sharding)
    rows = local_rows(sharding, batch_size)
    started = collections.deque()
    for step in steps:
        indices, mask = order(step * batch_size + rows)
        host = {"index": indices.astype(np.int32), "mask": mask}
        started.append(Loaded({key: global_array(host[key], rows, sharding, batch_size) for key in host}, host))
        if len(started) > _AHEAD:
            yield started.popleft()
    yield from started


def fetch(resident: Resident, batch: Batch, sharding: NamedSharding) -> Batch:
    """The batch that `batches.global_batches` would have sent; runs inside a jitted function.

    Over n shards a device reads its part of the global batch's rows and takes part in one reduce-scatter of
    uint8[B, s*s*3] (each byte has one contributor that is not 0, so that the sum is exact); the resident images
    themselves stay where they are. With one shard it is a gather.

    Args:
        resident: Of `place`.
        batch: `index int32[B]` and `mask bool[B]`, global, sharded as `sharding` says.
        sharding: Of the batch.
    """
    axes = _axes(sharding)
    split, whole = P(axes), P()
    rows = jax.shard_map(
        lambda *parts: _own_rows(Resident(*parts[:4]), *parts[4:], axes),
        mesh=sharding.mesh,
        in_specs=(split, whole, whole, whole, split, split),
        out_specs=split,
    )(*resident, batch["index"], batch["mask"])
    return batch | rows


def _own_rows(shard: Resident, index: Int32[Array, " b"], mask: Array, axes: tuple[str, ...]) -> Batch:
    """What one device does: of the batch the rows that are its own, given the images that it holds."""
    side = math.isqrt(shard.images.shape[1] // 3)
    if jax.lax.axis_size(axes) == 1:
        images = jnp.take(shard.images, index, axis=0, mode="clip")
    else:
        held = len(shard.images)
        # Everyone's rows, as places in this shard; those that lie in another are outside it and become 0.
        places = jax.lax.all_gather(index, axes, tiled=True) - jax.lax.axis_index(axes) * held
        here = (places >= 0) & (places < held)
        mine = jnp.where(here[:, None], jnp.take(shard.images, places, axis=0, mode="clip"), jnp.uint8(0))
        images = jax.lax.psum_scatter(mine, axes, scatter_dimension=0, tiled=True)
    images = jnp.where(mask[:, None], images, jnp.uint8(0)).reshape(-1, side, side, 3)
    columns = {"aspect": 1.0, "label": 0, "group": 0}  # of a row that holds no example
    columns = {key: jnp.where(mask, getattr(shard, key)[index], empty) for key, empty in columns.items()}
    return {"image": images} | columns


def _axes(sharding: NamedSharding) -> tuple[str, ...]:
    axes = sharding.spec[0] if len(sharding.spec) else ()
    return (axes,) if isinstance(axes, str) else tuple(axes or ())
