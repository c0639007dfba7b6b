"""Sums of a state's bits, kept with a checkpoint and compared when it is read: what a disk or a network has changed is
never trained on. They do not depend on how an array is split, and are computed where it lies.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, UInt32

from p10k_jax.models.functional import Tree
from p10k_jax.training.patterns import path_name

_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def checksums(tree: Tree) -> tuple[dict[str, int], list[str]]:
    """For every array of a tree the sum of its bits as 32-bit words (or of its shorter elements), modulo 2**32; and the
    names of those that hold a number that is not finite.

    Args:
        tree: Of `jax.Array`, on any devices, or of NumPy arrays.
    """
    leaves = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    if not leaves:
        return {}, []
    parts = [_on_host(leaf) for leaf in leaves.values()]
    if any(part is None for part in parts):
        sums, finite = jax.device_get(_jitted(_whole(list(leaves.values())))(list(leaves.values())))
    else:
        sums = [sum(map(_sum_of_bits, arrays)) & 0xFFFFFFFF for arrays in parts]
        finite = [all(map(_all_finite, arrays)) for arrays in parts]
    not_finite = [name for name, good in zip(leaves, finite, strict=True) if not good]
    return {name: int(value) for name, value in zip(leaves, sums, strict=True)}, not_finite


def damaged(tree: Tree, expected: dict[str, int]) -> list[str]:
    """The names of a tree's arrays whose sum is another than expected; those without an expectation are left out."""
    found, _ = checksums(tree)
    return [name for name, value in found.items() if expected.get(name, value) != value]


def _on_host(leaf: Array | np.ndarray) -> list[np.ndarray] | None:
    """The parts of an array that NumPy can look at without a copy, each once; None where they are on other devices. On
    a CPU, NumPy adds integers seven times as fast as XLA."""
    if not isinstance(leaf, jax.Array):
        return [np.asarray(leaf)]
    if not leaf.is_fully_addressable or any(device.platform != "cpu" for device in leaf.sharding.device_set):
        return None
    return [np.asarray(shard.data) for shard in leaf.addressable_shards if shard.replica_id == 0]


def _whole(leaves: list[Array]) -> NamedSharding | None:
    """The sharding of a result that every process sees."""
    meshes = [leaf.sharding.mesh for leaf in leaves if isinstance(leaf.sharding, NamedSharding)]
    return NamedSharding(meshes[0], P()) if meshes else None


@functools.cache
def _jitted(sharding: NamedSharding | None):
    return jax.jit(_on_devices, out_shardings=sharding)


def _on_devices(leaves: list[Array]) -> tuple[UInt32[Array, " n"], Bool[Array, " n"]]:
    def words(leaf: Array) -> Array:
        if leaf.dtype == jnp.bool_:
            return leaf.astype(jnp.uint32)
        return jax.lax.bitcast_convert_type(leaf, _WORDS[leaf.dtype.itemsize]).astype(jnp.uint32)

    def finite(leaf: Array) -> Array:
        return jnp.isfinite(leaf).all() if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.ones((), bool)

    sums = jnp.stack([words(leaf).sum(dtype=jnp.uint32) for leaf in leaves])
    return sums, jnp.stack([finite(leaf) for leaf in leaves])


def _sum_of_bits(part: np.ndarray) -> int:
    words = np.ascontiguousarray(part).reshape(-1).view(_WORDS[part.dtype.itemsize])
    return int(words.sum(dtype=np.uint32))  # which wraps


def _all_finite(part: np.ndarray) -> bool:
    if not jnp.issubdtype(part.dtype, jnp.inexact):
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        if part.dtype == np.float32 and np.isfinite(part.sum()):
            return True  # what is not finite stays so in a sum
    return bool(np.isfinite(part.astype(np.float32)).all())
