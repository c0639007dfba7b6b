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
    if all(isinstance(leaf, jax.Array) for leaf in leaves.values()):
        sums, finite = jax.device_get(_jitted(_whole(list(leaves.values())))(list(leaves.values())))
    else:
        sums = [_sum_of_bits(np.asarray(leaf)) for leaf in leaves.values()]
        finite = [_all_finite(np.asarray(leaf)) for leaf in leaves.values()]
    not_finite = [name for name, good in zip(leaves, finite, strict=True) if not good]
    return {name: int(value) for name, value in zip(leaves, sums, strict=True)}, not_finite


def damaged(tree: Tree, expected: dict[str, int]) -> list[str]:
    """The names of a tree's arrays whose sum is another than expected; those without an expectation are left out."""
    found, _ = checksums(tree)
    return [name for name, value in found.items() if expected.get(name, value) != value]


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


def _sum_of_bits(leaf: np.ndarray) -> int:
    words = np.ascontiguousarray(leaf).reshape(-1).view(_WORDS[leaf.dtype.itemsize])
    return int(words.sum(dtype=np.uint64)) & 0xFFFFFFFF


def _all_finite(leaf: np.ndarray) -> bool:
    return not jnp.issubdtype(leaf.dtype, jnp.inexact) or bool(np.isfinite(leaf.astype(np.float32)).all())
