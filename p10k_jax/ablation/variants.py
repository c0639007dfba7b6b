"""Variants of a config: what an ablation's file is made of, and how the programs read it.

A file has `get_config(arg)`, which understands `variant=NAME`, and `variants()` or `sweep()` or both:

    def variants():
        return {"linear": {}, "cosine": {"head.name": "cosine"}}

    def get_config(arg=None):
        values = parse_arg(arg, variant="", model="vit_small_patch14_dinov2")
        return pick(finetune.get_config(f"model={values['model']}"), variants(), values["variant"])
"""

import copy
import difflib
import importlib.util
import inspect
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from p10k_jax.config import as_plain, config_of_arguments, flat, override_durations
from p10k_jax.training.duration import UNITS

Overrides = Mapping[str, Any]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]*")


def apply(config: ConfigDict, overrides: Overrides) -> None:
    """Sets settings of a config in place, with the checks of the command line.

    Args:
        config: Locked or not.
        overrides: Dotted key to value. A dict sets the settings that it names; a ConfigDict takes the place of the
            group, for a model of another family. Of a duration in several units the one given wins.

    Raises:
        ValueError: an unknown key, or a value of another type; the message names it.
    """
    for key, value in overrides.items():
        if isinstance(value, ConfigDict):
            parent, leaf = _parent(config, key)
            with parent.unlocked():
                parent[leaf] = value
        elif isinstance(value, Mapping):
            _parent(config, key)
            apply(config, {f"{key}.{part}": inner for part, inner in value.items()})
        else:
            _set(config, key, value)
    override_durations(config, {key: value for key, value in overrides.items() if value is not None})


def _set(config: ConfigDict, key: str, value: Any) -> None:
    parent, leaf = _parent(config, key)
    try:
        parent[leaf] = value
    except (TypeError, ValueError) as error:
        kind = parent.get_type(leaf).__name__
        raise ValueError(f"{key}={value!r} is of type {type(value).__name__}; {key} takes {kind}.") from error


def _parent(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    node = config
    *parents, leaf = key.split(".")
    for depth, part in enumerate([*parents, leaf]):
        if not isinstance(node, ConfigDict) or part not in node:
            known = list(node) if isinstance(node, ConfigDict) else []
            close = difflib.get_close_matches(part, known, n=1)
            prefix = ".".join(key.split(".")[:depth])
            hint = f" Did you mean {'.'.join(filter(None, [prefix, close[0]]))!r}?" if close else ""
            raise ValueError(f"{key}: there is no such setting.{hint}")
        if depth < len(parents):
            node = node[part]
    return node, leaf


def grid(**axes: Iterable[Any]) -> list[dict[str, Any]]:
    """Every combination of values: `grid(**{"optimizer.learning_rate": (1e-4, 3e-4), "ema_decay": (0.0, 0.999)})`.

    The last axis changes fastest.
    """
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def named(points: Iterable[Overrides]) -> dict[str, dict[str, Any]]:
    """Points of a sweep by names made from their values: `learning_rate=0.001+layer_decay=0.75`.

    A key is shortened to its last part where no other key ends alike.

    Raises:
        ValueError: a point twice, or a value that makes no name.
    """
    points = [dict(point) for point in points]
    keys = {key for point in points for key in point}
    short = {key: key.rpartition(".")[2] for key in keys}
    short = {key: key if list(short.values()).count(last) > 1 else last for key, last in short.items()}
    found = {}
    for point in points:
        name = "+".join(f"{short[key]}={_text(value)}" for key, value in point.items())
        if name in found:
            raise ValueError(f"The sweep has {name!r} twice.")
        found[name] = point
    check_names(found)
    return found


def _text(value: Any) -> str:
    return "-".join(map(_text, value)) if isinstance(value, tuple | list) else str(value)


def check_names(names: Iterable[str]) -> None:
    """Raises ValueError for a name that is no folder, or no argument of a config."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"Variant {name!r}: a name is a folder too. Begin with a letter or digit and use those and . _ = + -"
            )
        if name in ("logs", "compiled") or name.startswith("ablation."):
            raise ValueError(f"Variant {name!r}: the ablation has a file or folder of that name; give another.")


def pick(base: ConfigDict, variants: Mapping[str, Overrides], name: str = "") -> ConfigDict:
    """The config of a variant.

    Args:
        base: Left as it is.
        variants: Name to overrides.
        name: Empty: the first.

    Raises:
        ValueError: no such variant, or one that does not fit the base; the message names variant and key.
    """
    name = name or next(iter(variants))
    check_known(variants, [name])
    config = copy.deepcopy(base)
    try:
        apply(config, variants[name])
    except ValueError as error:
        raise ValueError(f"variant {name!r}: {error}") from error
    return config.lock()


def check_known(variants: Mapping[str, Overrides], names: Iterable[str]) -> None:
    """Raises ValueError for a name that is no variant."""
    for name in names:
        if name not in variants:
            raise ValueError(f"There is no variant {name!r}. Known: {', '.join(variants)}.")


def read_variants(file: Path, arg: str | None = None) -> dict[str, dict[str, Any]]:
    """All variants of an ablation's file: those of `variants()`, then those of `sweep()`.

    Args:
        file: A config file; the two functions may take the config's argument, or nothing.
        arg: What stands behind the colon.

    Raises:
        ValueError: it has none, or names that are none.
    """
    module = _load(file)
    found: dict[str, dict[str, Any]] = {}
    for function in filter(None, (getattr(module, name, None) for name in ("variants", "sweep"))):
        result = function(arg) if inspect.signature(function).parameters else function()
        more = result if isinstance(result, Mapping) else named(result)
        if twice := found.keys() & more.keys():
            raise ValueError(f"{file}: variants() and sweep() both have {min(twice)!r}.")
        found |= {name: dict(overrides) for name, overrides in more.items()}
    if not found:
        raise ValueError(f"{file} has no variants() and no sweep(); docs/ablations.md shows how to write them.")
    check_names(found)
    return found


def _load(file: Path) -> ModuleType:
    if not file.is_file():
        raise ValueError(f"--config={file}: there is no such file.")
    spec = importlib.util.spec_from_file_location("ablation_file", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments_of(file: str, arg: str | None, variant: str, overrides: Iterable[str]) -> list[str]:
    """The command line that makes a variant's config: `--config=FILE:ARG,variant=NAME --config.a.b=value ...`."""
    return [f"--config={file}:{','.join(filter(None, [arg, f'variant={variant}']))}", *overrides]


def build(
    file: str, arg: str | None, variants: Mapping[str, Overrides], overrides: Iterable[str]
) -> dict[str, ConfigDict]:
    """The config of every variant, as `p10k_jax.train` makes it of `arguments_of`.

    Args:
        file, arg: `--config=FILE:ARG`.
        variants: Name to overrides; the first is the base.
        overrides: `--config.a.b=value` of the command line, for all of them.

    Raises:
        ValueError: a variant that does not fit, two that are the same, or an override of what the variants vary.
    """
    overrides = list(overrides)
    plain = {name: _config(name, arguments_of(file, arg, name, [])) for name in variants}
    varied = {name: _varied(plain, variants, name) for name in variants}
    for override in overrides:
        key = override.lstrip("-").partition(".")[2].partition("=")[0]
        key = key if override.lstrip("-").startswith("config.") else key.removeprefix("no")
        for name, keys in varied.items():
            if touched := next((other for other in sorted(keys) if _same_setting(key, other)), None):
                raise ValueError(f"{override} sets what variant {name!r} varies ({touched}); leave it out.")
    configs = {name: _config(name, arguments_of(file, arg, name, overrides)) for name in variants}
    seen: dict[str, str] = {}
    for name, config in configs.items():
        if (same := seen.setdefault(repr(as_plain(config)), name)) != name:
            raise ValueError(f"variants {same!r} and {name!r} are the same config; leave one of them out.")
    return configs


def _config(name: str, arguments: list[str]) -> ConfigDict:
    try:
        return config_of_arguments(arguments)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if repr(name) in message else f"variant {name!r}: {message}") from error


def _varied(configs: Mapping[str, ConfigDict], variants: Mapping[str, Overrides], name: str) -> set[str]:
    base, own = (flat(as_plain(configs[key])) for key in (next(iter(configs)), name))
    changed = {key for key in base.keys() | own.keys() if base.get(key, ...) != own.get(key, ...)}
    return changed | set(flat(variants[name]))


def _same_setting(key: str, other: str) -> bool:
    """Whether two dotted keys are one setting, one inside the other, or units of one duration."""
    first, second = (
        key.rpartition(".")[0] if key.rpartition(".")[2] in UNITS and key != "duration.percent" else key
        for key in (key, other)
    )
    if "duration.percent" in (key, other):
        return key == other
    return first == second or first.startswith(second + ".") or second.startswith(first + ".")
