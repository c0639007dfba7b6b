"""Tensors of a file into a model: fitted to the model's tree, with what was done with each told.

`p10k_jax.weights.files` reads the files.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from p10k_jax.models.functional import Tree
from p10k_jax.models.heads import HEAD_PARTS
from p10k_jax.models.transformer import resample_positions
from p10k_jax.weights.outline import outline
from p10k_jax.weights.preprocessing import Preprocessing
from p10k_jax.weights.state_dict import timm_name, to_ours, tree_paths

# With DeiT's second classifier, of its distilled weights, which no model here has.
_HEAD_PARTS = (*HEAD_PARTS, "head_dist")

# What a file may hold over, as timm passes over it: tokens and heads of masked pretraining, the original ViT's layer
# before the head, fixed tables of rotary positions; and SigLIP's pooling where the model pools in another way.
_HARMLESS = re.compile(r"num_batches_tracked$|(^|\.)mask_token$|^(pre_logits|lm_head)\.|^(?!rope\.freqs$)(.*\.)?rope\.")
_POOLING = "attn_pool."
_MOST_LISTED = 12


class Fit(NamedTuple):
    """What became of a file's tensors.

    Attributes:
        weights: Those leaves of `{"params": ..., "batch_stats": ...}` that the file fills, float32 NumPy.
        loaded: Names of the leaves taken as they are.
        resized: Names of position tables that were resampled, with what they were and are.
        new: Names of leaves that the file does not fill.
        left_over: Names of tensors that the model has no use for.
        renamed: Names of leaves that stand at another place in the file, with that place; they are `loaded` too.
        source: The file in words, empty where it is not known.
        sha256: Of the file, in hex, empty where it is not known.
        preprocessing: What the file's weights expect of images, None where it does not tell.
    """

    weights: Tree
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    new: tuple[str, ...]
    left_over: tuple[str, ...]
    renamed: tuple[str, ...] = ()
    source: str = ""
    sha256: str = ""
    preprocessing: Preprocessing | None = None

    def __str__(self) -> str:
        size = sum(leaf.size for leaf in jax.tree.leaves(self.weights))
        head = ", the classifier among them" if any(path.split(".")[0] in _HEAD_PARTS for path in self.loaded) else ""
        lines = [f"{len(self.loaded) + len(self.resized)} tensors, {size:,} parameters and statistics loaded{head}"]
        lines += [f"{what}: {_listed(names)}" for what, names in self._told() if names]
        lines += [f"{what}: {value}" for what, value in (("source", self.source), ("sha256", self.sha256)) if value]
        return "\n".join(lines)

    def _told(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (
            ("resized", self.resized),
            ("renamed", self.renamed),
            ("newly made", self.new),
            ("left over", self.left_over),
        )


def fit_tensors(
    tensors: Mapping[str, np.ndarray],
    template: Tree,
    *,
    prefix_tokens: int = 0,
    new: Iterable[str] = (),
    left_over: Iterable[str] = (),
) -> Fit:
    """Fits a state dict to a model.

    The classifier is taken where all of it has the model's shape and what it stands on is the file's too, and made anew
    otherwise; a neck and a group head likewise. Position tables of another grid are resampled. A model that pools
    before its last norm (`fc_norm`) takes the norm of a file that pools after it (`norm`), as timm does for EVA. All
    else must be there and be used, but for what the patterns allow and what timm passes over too: `mask_token`,
    `lm_head`, `pre_logits`, SigLIP's `attn_pool`, rotary tables.

    Args:
        tensors: timm's names, torch's layout.
        template: `{"params": ..., "batch_stats": ...}` of arrays or shapes.
        prefix_tokens: How many of the model's positions belong to class and register tokens.
        new: Patterns (`re.search`) of leaves that may be made anew, as `blocks.0.ls1.gamma`.
        left_over: Patterns of tensors that may stay unused.

    Raises:
        ValueError: a tensor that is missing, left over or of another shape (all are listed, with the way out), or a
            pattern that is no regular expression.
    """
    new, left_over = (_compiled(patterns, setting) for patterns, setting in ((new, "new"), (left_over, "left_over")))
    leaves = {path.partition(".")[2]: leaf for path, leaf in tree_paths(template).items()}
    tensors, renamed = _with_fc_norm(tensors, leaves)
    shapes = {name: np.shape(tensor) for name, tensor in tensors.items()}
    foreign = _foreign_parts(tensors, leaves)
    weights, loaded, resized, made, problems = {}, [], [], [], []
    for full_path, leaf in tree_paths(template).items():
        path = full_path.partition(".")[2]
        name = timm_name(path)
        value = tensors.pop(name, None)
        if value is not None:
            value = _ours(path, value, leaf)
        if path.split(".")[0] in foreign:
            made.append(path)
        elif value is not None and value.shape == leaf.shape:
            weights[full_path] = value
            loaded.append(path)
        elif value is not None and name == "pos_embed" and value.shape[2:] == leaf.shape[2:]:
            try:
                weights[full_path] = resize_positions(value, leaf.shape[1], prefix_tokens=prefix_tokens)
            except ValueError as error:
                problems.append(str(error))
            resized.append(f"{path} {value.shape[1]} -> {leaf.shape[1]}")
        elif value is None and _any(new, path):
            made.append(path)
        elif value is None:
            problems.append(f"missing {name}: the model's {path} {leaf.shape}; model.weights_new allows it by pattern")
        else:
            problems.append(f"{name} has shape {value.shape} in our layout, the model's {path} {leaf.shape}")
    pools_alike = any(path.startswith(_POOLING) for path in leaves)
    for name in tensors:
        harmless = _HARMLESS.search(name) or (name.startswith(_POOLING) and not pools_alike)
        if not (_any(left_over, name) or harmless or name.split(".")[0] in _HEAD_PARTS):
            problems.append(f"left over {name} {shapes[name]}; model.weights_left_over allows it by pattern")
    if problems:
        raise ValueError(_misfit(problems, shapes, leaves))
    unused = tuple(name for name in tensors if not name.endswith("num_batches_tracked"))
    return Fit(nested(weights), tuple(loaded), tuple(resized), tuple(made), unused, renamed)


def resize_positions(
    positions: Float[np.ndarray, "1 n d"], number: int, *, prefix_tokens: int
) -> Float[np.ndarray, "1 m d"]:
    """Learned positions of a square grid for another one, by antialiased bicubic resampling as timm does it.

    Args:
        positions: Of the prefix tokens, then of the patches in rows.
        number: Positions wanted, with those of the prefix.
        prefix_tokens: Their number; they stay as they are.

    Raises:
        ValueError: one of the two grids is not square.
    """
    sides = [_side(count - prefix_tokens) for count in (positions.shape[1], number)]
    for side, count in zip(sides, (positions.shape[1], number), strict=True):
        if side is None:
            others = [n for n in range(min(17, count)) if _side(count - n)]
            hint = f" {count} would be {count - others[0]} and {others[0]} prefix tokens." if others else ""
            raise ValueError(
                f"pos_embed: {count} positions less {prefix_tokens} prefix tokens make no square grid.{hint}"
            )
    resampled = resample_positions(jnp.asarray(positions, jnp.float32), prefix_tokens, sides[1], sides[1])
    return np.asarray(resampled)


def overlay(tree: Tree, part: Tree) -> Tree:
    """`tree` with the leaves of `part` in place of its own."""
    merged = dict(tree)
    for key, value in part.items():
        merged[key] = overlay(tree[key], value) if isinstance(value, dict) else value
    return merged


def same_part(tree: Tree, part: Tree) -> Tree:
    """The leaves of `tree` at the places that `part` has."""
    return {key: same_part(tree[key], value) if isinstance(value, dict) else tree[key] for key, value in part.items()}


def count_classes(tensors: Mapping[str, np.ndarray]) -> int:
    """Classes of a file's classifier, by timm's names; 0 without one, or with one on a layer that no model has."""
    names = ("head.weight", "fc.weight", "head.fc.weight")
    if any(name.startswith("pre_logits.") for name in tensors):
        return 0
    return next((len(tensors[name]) for name in names if name in tensors), 0)


def _side(count: int) -> int | None:
    """Of the square grid with that many cells."""
    return side if count > 0 and (side := math.isqrt(count)) ** 2 == count else None


def _with_fc_norm(
    tensors: Mapping[str, np.ndarray], leaves: Mapping[str, jax.ShapeDtypeStruct]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """A copy in which `norm` is `fc_norm` where the model has only that and the file only this; and the renamed."""
    tensors = dict(tensors)
    wanted = {timm_name(path) for path in leaves}
    renamed = []
    for leaf in ("weight", "bias"):
        here, there = f"fc_norm.{leaf}", f"norm.{leaf}"
        if here in wanted and there not in wanted and here not in tensors and there in tensors:
            tensors[here] = tensors.pop(there)
            renamed.append(f"{there} -> {here}")
    return tensors, tuple(renamed)


def _ours(path: str, tensor: np.ndarray, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """The tensor in our layout; a 1x1 convolution is a dense layer where the model has one, and the other way round."""
    value = to_ours(path, tensor)
    if value.ndim == 4 and len(leaf.shape) == 2 and value.shape[:2] == (1, 1):
        return value[0, 0]
    if value.ndim == 2 and len(leaf.shape) == 4 and leaf.shape[:2] == (1, 1):
        return value[None, None]
    return value


def _foreign_parts(tensors: Mapping[str, np.ndarray], leaves: Mapping[str, jax.ShapeDtypeStruct]) -> set[str]:
    """Which of the model's heads and necks the file has not, or has with other shapes, more parts, or on another base.

    A classifier is worth nothing on an embedding that it was not trained on: one that is new here, or that only the
    file has.
    """

    def parts(names: Iterable[str]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name in names:
            if (part := name.split(".")[0]) in _HEAD_PARTS and not name.endswith("num_batches_tracked"):
                found.setdefault(part, set()).add(name)
        return found

    here, there = parts(timm_name(path) for path in leaves), parts(tensors)
    foreign = {part for part, names in here.items() if there.get(part) != names}
    for path, leaf in leaves.items():
        tensor = tensors.get(timm_name(path))
        if path.split(".")[0] in here and tensor is not None and _ours(path, tensor, leaf).shape != leaf.shape:
            foreign.add(path.split(".")[0])
    pre_logits = any(name.startswith("pre_logits.") for name in tensors)
    if pre_logits or "neck" in foreign or ("neck" in there and "neck" not in here):
        foreign |= here.keys()
    return foreign


def _misfit(
    problems: list[str], shapes: Mapping[str, tuple[int, ...]], leaves: Mapping[str, jax.ShapeDtypeStruct]
) -> str:
    """The error for weights that do not fit; it compares the two networks where names and shapes tell them apart."""
    model = {timm_name(path): _torch_shape(path, leaf.shape) for path, leaf in leaves.items()}
    there, here = outline(shapes), outline(model)
    apart = there and here and there != here
    known = f": the file holds {there}; the model has {here}." if apart else "; is it the right architecture?"
    more = [f"and {len(problems) - 20} more"] if len(problems) > 20 else []
    return "\n  ".join([f"The weights do not fit the model{known}", *problems[:20], *more])


def _torch_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not path.endswith("kernel") or len(shape) not in (2, 4):
        return tuple(shape)
    *window, channels_in, channels_out = shape
    return channels_out, channels_in, *window


def _listed(names: tuple[str, ...]) -> str:
    """The names, the later ones of many only counted."""
    more = [f"and {len(names) - _MOST_LISTED} more"] if len(names) > _MOST_LISTED else []
    return ", ".join([*names[:_MOST_LISTED], *more])


def _compiled(patterns: Iterable[str], setting: str) -> list[re.Pattern]:
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(f"model.weights_{setting}: {error.pattern!r} is no regular expression: {error}.") from error


def _any(patterns: Iterable[re.Pattern], text: str) -> bool:
    return any(pattern.search(text) for pattern in patterns)


def nested(flat: Mapping[str, np.ndarray]) -> Tree:
    """The inverse of `tree_paths`: leaves by dotted path to nested dicts."""
    tree: Tree = {}
    for path, value in flat.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
