"""Between this package's trees and timm's state dicts: the same names, other layouts.

A path here is a name there; only leaf names and axis orders differ between flax and torch.
"""

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


def to_timm(tree: Tree) -> dict[str, np.ndarray]:
    """A tree as timm's state dict: its names, torch's layout, float32 NumPy. `fit_tensors` is the way back."""
    tensors = {}
    for path, leaf in tree_paths(tree).items():
        value = np.asarray(leaf, np.float32)
        if (axes := _axes(path, value.ndim)) is not None:
            value = value.transpose(np.argsort(axes))
        tensors[timm_name(path)] = np.ascontiguousarray(value)
    return tensors
