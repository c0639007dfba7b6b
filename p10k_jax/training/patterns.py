"""Settings by pattern: who gets what among the leaves of a parameter tree.

Rules are `(regular expression, value)` pairs over dotted paths (`blocks.0.attn.qkv.kernel`); the first that is found
in a path decides. A pattern that matches nothing is a mistake and raises.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import jax

from p10k_jax.models.functional import Tree

Value = TypeVar("Value")
Rules = Sequence[tuple[str, Value]]


def path_name(path: tuple[Any, ...]) -> str:
    """A JAX key path as dotted words: dict keys, attribute names and positions alike."""
    return ".".join(str(getattr(e, "key", getattr(e, "name", getattr(e, "idx", e)))) for e in path)


def check_patterns(rules: Rules, tree: Tree, *, setting: str) -> None:
    """Raises ValueError for a pattern that is no regular expression or is found in no path of the tree."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    for pattern, _ in rules:
        try:
            found = any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise ValueError(f"{setting}: {pattern!r} is no regular expression: {error}.") from error
        if not found:
            raise ValueError(
                f"{setting}: pattern {pattern!r} matches no parameter; paths look like {names[0]!r} and {names[-1]!r}."
            )


def first_match(rules: Rules, name: str, default: Value) -> Value:
    """The value of the first rule found in `name`."""
    return next((value for pattern, value in rules if re.search(pattern, name)), default)


def assign(rules: Rules, tree: Tree, default: Value) -> Tree:
    """A tree like `tree` with each leaf replaced by its value."""
    return jax.tree_util.tree_map_with_path(lambda path, _: first_match(rules, path_name(path), default), tree)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sorts `blocks.2` before `blocks.10`."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in name.split(".")]


def table(assigned: Tree, tree: Tree) -> str:
    """Who got what, as lines: value, number of leaves and of parameters, an example path."""
    groups: dict[str, list[tuple[str, int]]] = {}
    sizes = [leaf.size for leaf in jax.tree.leaves(tree)]
    values = jax.tree_util.tree_leaves_with_path(assigned, is_leaf=lambda node: not isinstance(node, dict))
    for (path, value), size in zip(values, sizes, strict=True):
        groups.setdefault(str(value), []).append((path_name(path), size))
    rows = []
    for value, leaves in sorted(groups.items(), key=lambda group: _natural(group[1][0][0])):
        parameters = sum(size for _, size in leaves)
        rows.append(f"  {value:>16}: {len(leaves):4d} leaves, {parameters:13,d} parameters, e.g. {leaves[0][0]}")
    return "\n".join(rows)
