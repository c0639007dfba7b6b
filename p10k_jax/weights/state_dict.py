"""Between this package's trees and timm's state dicts: the same names, other layouts.

A path here is a name there; only leaf names and axis orders differ between flax and torch.
"""

import re
from collections.abc import Mapping

import jax
import numpy as np

from p10k_jax.models.functional import Tree

_LEAF_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def tree_paths(tree: Tree) -> dict[str, object]:
    """A nested dict as `{'blocks.0.attn.qkv.kernel': leaf}`, in the tree's own order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {".".join(str(entry.key) for entry in path): leaf for path, leaf in leaves}


def timm_name(path: str) -> str:
    """`blocks.0.attn.qkv.kernel` -> `blocks.0.attn.qkv.weight`."""
    parent, _, leaf = path.rpartition(".")
    return f"{parent}.{_LEAF_NAMES.get(leaf, leaf)}" if parent else leaf


def _axes(path: str, rank: int) -> tuple[int, ...] | None:
    """The transpose from torch's layout to ours: dense [out,in] -> [in,out], convolution [o,i,h,w] -> [h,w,i,o]."""
    if not path.endswith("kernel"):
        return None
    return {2: (1, 0), 4: (2, 3, 1, 0)}[rank]


def to_ours(path: str, value: np.ndarray) -> np.ndarray:
    """A tensor in torch's layout as float32 in ours; one of unexpected rank stays as it is laid out."""
    value = np.asarray(value, np.float32)
    axes = _axes(path, value.ndim) if value.ndim in (2, 4) else None
    return value if axes is None else value.transpose(axes)


def from_timm(tensors: Mapping[str, np.ndarray], template: Tree) -> Tree:
    """A tree like `template` with the values of a timm state dict.

    Args:
        tensors: timm's names and arrays in torch's layout. `num_batches_tracked` counters are passed over.
        template: Parameters and batch statistics in one tree or one of the two, of arrays or shapes.

    Returns:
        Float32 NumPy arrays in the structure of `template`.

    Raises:
        ValueError: a name that is missing or left over, or a shape that differs; all of them are listed.
    """
    paths = tree_paths(template)
    wanted = {timm_name(path) for path in paths}
    given = {name for name in tensors if not re.search(r"num_batches_tracked$", name)}
    problems = [f"missing {name}" for name in sorted(wanted - given)]
    problems += [f"left over {name}" for name in sorted(given - wanted)]
    values = []
    for path, leaf in paths.items():
        if (name := timm_name(path)) not in given:
            continue
        value = to_ours(path, tensors[name])
        if value.shape != leaf.shape:
            problems.append(f"{name} has shape {tensors[name].shape}, {path} wants {leaf.shape}")
        values.append(value)
    if problems:
        raise ValueError("The state dict does not fit the model:\n  " + "\n  ".join(problems))
    return jax.tree.unflatten(jax.tree.structure(template), values)


def to_timm(tree: Tree) -> dict[str, np.ndarray]:
    """The inverse of `from_timm`: timm's names, torch's layout, float32 NumPy."""
    tensors = {}
    for path, leaf in tree_paths(tree).items():
        value = np.asarray(leaf, np.float32)
        if (axes := _axes(path, value.ndim)) is not None:
            value = value.transpose(np.argsort(axes))
        tensors[timm_name(path)] = np.ascontiguousarray(value)
    return tensors
