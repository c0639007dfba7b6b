"""Public weights into a model: read a file, fit its tensors to the model's tree, and tell what was done with each.

Files are `.safetensors` with timm's or torchvision's names. Nothing is unpickled.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from p10k_jax.models.functional import Tree
from p10k_jax.models.heads import HEAD_PARTS
from p10k_jax.models.state_dict import timm_name, to_ours, tree_paths
from p10k_jax.models.vit import resample_positions


class Fit(NamedTuple):
    """What became of a file's tensors.

    Attributes:
        weights: Those leaves of `{"params": ..., "batch_stats": ...}` that the file fills, float32 NumPy.
        loaded: Names of the leaves taken as they are.
        resized: Names of position tables that were resampled, with what they were and are.
        new: Names of leaves that the file does not fill.
        left_over: Names of tensors that the model has no use for.
    """

    weights: Tree
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    new: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        size = sum(leaf.size for leaf in jax.tree.leaves(self.weights))
        head = ", the classifier among them" if any(path.split(".")[0] in HEAD_PARTS for path in self.loaded) else ""
        lines = [f"{len(self.loaded) + len(self.resized)} tensors, {size:,} parameters and statistics loaded{head}"]
        lines += [f"{what}: {', '.join(names)}" for what, names in self._told() if names]
        return "\n".join(lines)

    def _told(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return ("resized", self.resized), ("newly made", self.new), ("left over", self.left_over)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a `.safetensors` file by name, in float32.

    Raises:
        ValueError: no such file, another kind of file, or a damaged one.
    """
    if not path.is_file():
        raise ValueError(f"model.weights={path}: there is no such file.")
    if path.suffix != ".safetensors":
        raise ValueError(
            f"model.weights={path} is no .safetensors file; a pickle (.pth, .bin, .ckpt) could run any code and is not "
            "read. Convert it where you trust it: safetensors.torch.save_file(state_dict, 'x.safetensors')."
        )
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: np.asarray(file.get_tensor(name), np.float32) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"model.weights={path} is damaged or cut short ({error}); fetch it again.") from error


def fit_tensors(
    tensors: Mapping[str, np.ndarray],
    template: Tree,
    *,
    prefix_tokens: int = 0,
    new: Iterable[str] = (),
    left_over: Iterable[str] = (),
) -> Fit:
    """Fits a state dict to a model.

    The classifier is taken where all of it has the model's shape and made anew otherwise. Position tables of another
    grid are resampled. All else must be there and be used, but for what the patterns allow.

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
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    new, left_over = (_compiled(patterns, setting) for patterns, setting in ((new, "new"), (left_over, "left_over")))
    foreign = _foreign_heads(tensors, template)
    weights, loaded, resized, made, problems = {}, [], [], [], []
    for full_path, leaf in tree_paths(template).items():
        path = full_path.partition(".")[2]
        name = timm_name(path)
        value = tensors.pop(name, None)
        if value is not None:
            value = to_ours(path, value)
        if path.split(".")[0] in foreign:
            made.append(path)
        elif value is not None and value.shape == leaf.shape:
            weights[full_path] = value
            loaded.append(path)
        elif value is not None and name == "pos_embed" and value.shape[2:] == leaf.shape[2:]:
            side = math.isqrt(leaf.shape[1] - prefix_tokens)
            weights[full_path] = np.asarray(resample_positions(jnp.asarray(value), prefix_tokens, side, side))
            resized.append(f"{path} {value.shape[1]} -> {leaf.shape[1]}")
        elif value is None and _any(new, path):
            made.append(path)
        elif value is None:
            problems.append(f"missing {name}: the model's {path} {leaf.shape}; model.weights_new allows it by pattern")
        else:
            problems.append(f"{name} has shape {value.shape} in our layout, the model's {path} {leaf.shape}")
    for name in tensors:
        if not _any(left_over, name) and name.split(".")[0] not in HEAD_PARTS:
            problems.append(f"left over {name} {tensors[name].shape}; model.weights_left_over allows it by pattern")
    if problems:
        listed = "\n  ".join(problems[:20] + ([f"and {len(problems) - 20} more"] if len(problems) > 20 else []))
        raise ValueError(f"The weights do not fit the model; is it the right architecture?\n  {listed}")
    return Fit(_nested(weights), tuple(loaded), tuple(resized), tuple(made), tuple(tensors))


def overlay(tree: Tree, part: Tree) -> Tree:
    """`tree` with the leaves of `part` in place of its own."""
    merged = dict(tree)
    for key, value in part.items():
        merged[key] = overlay(tree[key], value) if isinstance(value, dict) else value
    return merged


def same_part(tree: Tree, part: Tree) -> Tree:
    """The leaves of `tree` at the places that `part` has."""
    return {key: same_part(tree[key], value) if isinstance(value, dict) else tree[key] for key, value in part.items()}


def _foreign_heads(tensors: Mapping[str, np.ndarray], template: Tree) -> set[str]:
    """The model's heads that the file has not, or has with other shapes."""
    foreign = set()
    for full_path, leaf in tree_paths(template).items():
        path = full_path.partition(".")[2]
        tensor = tensors.get(timm_name(path))
        if path.split(".")[0] in HEAD_PARTS and (tensor is None or to_ours(path, tensor).shape != leaf.shape):
            foreign.add(path.split(".")[0])
    return foreign


def _compiled(patterns: Iterable[str], setting: str) -> list[re.Pattern]:
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(f"model.weights_{setting}: {error.pattern!r} is no regular expression: {error}.") from error


def _any(patterns: Iterable[re.Pattern], text: str) -> bool:
    return any(pattern.search(text) for pattern in patterns)


def _nested(flat: Mapping[str, np.ndarray]) -> Tree:
    tree: Tree = {}
    for path, value in flat.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
