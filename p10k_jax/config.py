"""Configs as data: reading the flag, durations set from the command line, the record in the workdir."""

import contextlib
import functools
import json
import operator
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from p10k_jax.files import read_object, write_json
from p10k_jax.training.duration import UNITS
from tfds_builder.terminal import printable

# Settings that may differ between the processes of a run.
_OF_HOST = ("data.data_dir", "data.manual_dir", "data.threads", "data.workers")

# Those that may differ when a run goes on: at most the rounding of its numbers depends on them.
_MAY_CHANGE = (
    *_OF_HOST,
    *("data.residency", "model.attention", "model.remat", "mesh.", "log.", "checkpoint.", "not_finite"),
)

# What a bad flag, or a bad config file, raises.
FLAG_ERRORS = (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, SyntaxError)


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
    """`'variant=S/16,runlocal'` to values, for `get_config(arg)`.

    Args:
        arg: What stands behind the colon in `--config=configs/vit.py:ARG`: `key=value` pairs and bare flags.
        **defaults: The known keys with their defaults; a value is read as the default's type.

    Raises:
        ValueError: an unknown key (the known ones are listed), or a value of another type.
    """
    values = dict(defaults)
    for item in filter(None, (arg or "").split(",")):
        key, has_value, text = item.partition("=")
        if key not in defaults:
            raise ValueError(f"Unknown config argument {key!r} in {arg!r}. Known: {', '.join(defaults) or 'none'}.")
        kind = type(defaults[key])
        if kind is bool:
            if text.lower() not in ("", "true", "false", "1", "0"):
                raise ValueError(f"Config argument {item!r}: give true or false.")
            values[key] = not has_value or text.lower() in ("true", "1")
            continue
        try:
            values[key] = kind(text)
        except ValueError as error:
            raise ValueError(f"Config argument {item!r}: {key} is a {kind.__name__}.") from error
    return values


def override_durations(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Makes `--config.duration.steps=100` win over the `duration.epochs` that the config file sets.

    Args:
        config: Changed in place: of a group of units in which one was given on the command line, the others are
            cleared. `duration.percent` scales `duration`'s length and clears nothing.
        overrides: Dotted keys given on the command line.
    """
    for key in overrides:
        group, _, unit = key.rpartition(".")
        if unit not in UNITS or (group, unit) == ("duration", "percent"):
            continue
        node = functools.reduce(operator.getitem, group.split("."), config)
        for other in UNITS:
            if other != unit and f"{group}.{other}" not in overrides and (group, other) != ("duration", "percent"):
                node[other] = None


def config_of_arguments(arguments: Sequence[str]) -> ConfigDict:
    """The config that a program makes of `--config=FILE:ARG --config.a.b=value ...`.

    Raises:
        ValueError: what the program would refuse: no such file, key or type.
    """
    values, arguments = flags.FlagValues(), ["config", *arguments]
    config_flags.DEFINE_config_file("config", None, flag_values=values, lock_config=True, sys_argv=arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # how ml_collections loads a file
            values(arguments)
            _ = values.config.is_locked  # one that could not be loaded says so when it is used
    except FLAG_ERRORS as error:
        raise ValueError(flag_complaint(error)) from error
    override_durations(values.config, config_flags.get_override_values(values["config"]))
    return values.config


def differences(old: Mapping, new: Mapping) -> list[str]:
    """Settings that differ between two configs as nested dicts: `key: old -> new`."""
    return [f"{key}: {before!r} -> {after!r}" for key, before, after in changes(old, new)]


def changes(old: Mapping, new: Mapping) -> list[tuple[str, Any, Any]]:
    """Settings that differ between two configs as nested dicts: (dotted key, old, new); of one that is not there
    `'absent'`."""
    flat_old, flat_new = flat(old), flat(new)
    keys = sorted(flat_old.keys() | flat_new.keys())
    values = [(key, flat_old.get(key, "absent"), flat_new.get(key, "absent")) for key in keys]
    return [(key, before, after) for key, before, after in values if before != after]


def flat(node: Mapping, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    out = {}
    for key, value in node.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def as_plain(config: ConfigDict) -> dict[str, Any]:
    """Nested plain dicts as JSON would give them back (tuples become lists)."""
    return json.loads(json.dumps(config.to_dict()))


# Beside the settings as they were resolved, those that were given: what tells whether a run is to go on.
_GIVEN = "given"


def resume_config(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The config that a run in `workdir` starts or goes on with; writes nothing.

    Args:
        config: As given.
        workdir: Where a run lies, what the config leaves open is as that run resolved it.

    Returns:
        A locked copy.

    Raises:
        ValueError: `workdir` holds a run that was given another config, or files that are no run.
    """
    config = config.copy_and_resolve_references()
    if not (workdir / "config.json").exists():
        check_empty(workdir)
        return config.lock()
    record = read_workdir(workdir)
    if _GIVEN not in record:
        raise ValueError(f"workdir={workdir} holds no run that could go on; give another --workdir.")
    if not isinstance(record[_GIVEN], ConfigDict):
        raise ValueError(f"workdir={workdir}: config.json does not say what the run was given; give another --workdir.")
    _check_same(workdir, record[_GIVEN].to_dict(), as_plain(config))
    with config.unlocked():
        _adopt(config, record)
    return config.lock()


def check_workdir(workdir: Path, config: Mapping) -> None:
    """Raises ValueError if `workdir` holds a run that was resolved otherwise: on other data, or other hardware."""
    if (workdir / "config.json").exists():
        record = read_workdir(workdir).to_dict()
        del record[_GIVEN]
        _check_same(workdir, record, config)


def _check_same(workdir: Path, record: Mapping, config: Mapping) -> None:
    changed = [line for line in differences(record, config) if not line.startswith(_MAY_CHANGE)]
    if changed:
        listed = "\n  ".join(changed)
        raise ValueError(
            f"workdir={workdir} holds a run of another config:\n  {listed}\nGive another --workdir, or those settings."
        )


def config_of_hosts(config: ConfigDict) -> str:
    """What must be the same in all processes of a run: all but where a host has the data and its number of threads."""
    return json.dumps({key: value for key, value in flat(as_plain(config)).items() if key not in _OF_HOST})


def check_empty(workdir: Path, *, setting: str = "workdir") -> None:
    """Raises ValueError where the folder holds anything, or is none."""
    if workdir.is_file():
        raise ValueError(f"{setting}={workdir} is a file; give a folder.")
    others = sorted(path.name for path in workdir.iterdir()) if workdir.exists() else []
    if any(not name.endswith(".incomplete") for name in others):
        without = "" if "config.json" in others else " but no config.json"
        raise ValueError(f"{setting}={workdir} holds {', '.join(others[:3])}{without}; give an empty folder.")


def _adopt(config: ConfigDict, record: ConfigDict, prefix: str = "") -> None:
    """Takes from a run's record what the config leaves open, but for what may change."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            if not isinstance(record.get(key), ConfigDict):
                raise ValueError(f"the workdir's config.json has no settings {prefix}{key}; give another --workdir.")
            _adopt(value, record[key], f"{prefix}{key}.")
        elif value is None and key in record and not f"{prefix}{key}".startswith(_MAY_CHANGE):
            config[key] = record[key]


def holds_run(path: Path) -> bool:
    """Whether the folder is the workdir of a run."""
    return (path / "config.json").is_file() and (path / "checkpoints").is_dir()


def write_workdir(workdir: Path, config: Mapping, given: Mapping) -> None:
    """Writes `config.json`: the config as it was resolved, and in it as it was given."""
    write_json(workdir / "config.json", {**config, _GIVEN: given})


def read_workdir(workdir: Path) -> ConfigDict:
    """The resolved config of a run. Raises ValueError if there is none."""
    record = workdir / "config.json"
    if not record.exists():
        raise ValueError(f"workdir={workdir} holds no config.json; is it a workdir of p10k_jax.train?")
    return ConfigDict(read_object(record, "give a workdir of p10k_jax.train"))


def define_config_flag() -> None:
    """Defines `--config`: a config file, its argument behind a colon, and overrides `--config.a.b=value`."""
    example = "Config file, e.g. configs/vit.py:variant=S/16; a setting: --config.optimizer.learning_rate=3e-4"
    config_flags.DEFINE_config_file("config", None, example, lock_config=True)


def config_of_flags() -> ConfigDict:
    """The config with overrides applied; locked, so that an unknown key is an error."""
    config = flags.FLAGS.config
    override_durations(config, config_flags.get_override_values(flags.FLAGS["config"]))
    return config


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turns an error about the input into its message on stderr and exit code 2; `-v=1` shows the traceback too."""
    try:
        yield
    except (ValueError, OSError) as error:
        if logging.vlog_is_on(1):
            traceback.print_exc()
        print(printable(f"\nerror: {error}"), file=sys.stderr)
        sys.exit(2)


def run_program(
    main: Callable[..., None],
    define_flags: Callable[[], None],
    *,
    required: tuple[str, ...],
    commands: tuple[str, ...] = (),
) -> None:
    """`absl.app.run`, quiet unless `-v` is given, whose complaints about flags are one message and exit code 2.

    Args:
        main: Reads `absl.flags.FLAGS`.
        define_flags: Defines this program's flags; called here, so that importing a program defines none.
        required: Flags that must be given.
        commands: Words of which one must be given before the flags; `main` is then given it.
    """
    define_flags()
    quiet = True

    def parse(arguments: list[str]) -> list[str]:
        nonlocal quiet
        try:
            rest = flags.FLAGS(arguments)
            if commands and (len(rest) < 2 or rest[1] not in commands):
                raise ValueError(f"give one of {', '.join(commands)}; --help tells more")
            if len(rest) > (2 if commands else 1):
                raise ValueError(f"unexpected {rest[-1]!r}; settings are written --name=value")
            missing = [f"--{name}" for name in required if flags.FLAGS[name].value is None]
            if missing:
                raise ValueError(f"give {' and '.join(missing)}; --help tells more")
        except FLAG_ERRORS as error:
            print(printable(f"error: {flag_complaint(error)}"), file=sys.stderr)
            sys.exit(2)
        quiet = flags.FLAGS["verbosity"].using_default_value  # absl sets it to INFO next
        return rest

    def quiet_main(given: list[str]) -> None:
        if quiet:
            logging.set_verbosity(logging.WARNING)  # Orbax tells thirty lines a checkpoint
        main(*given[1:])

    app.run(quiet_main, flags_parser=parse)


def flag_complaint(error: Exception) -> str:
    """What is wrong, without the traceback that ml_collections quotes from inside a config file."""
    while error.args and isinstance(error.args[0], Exception):  # ml_collections wraps a KeyError in an AttributeError
        error = error.args[0]
    message = str(error.args[0]) if error.args else str(error)
    flag, quotes, inside = message.partition("Error whilst parsing config file:")
    if quotes:
        lines = [line for line in inside.splitlines() if line.strip()]
        return f"{flag}{lines[-1]}"
    return message.replace("\n", " ")
