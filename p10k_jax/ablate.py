"""Trains and evaluates every variant of a config with several seeds, and writes the table that compares them.

    python -m p10k_jax.ablate --config=configs/ablations/heads.py --workdir=W [--seeds=3] [--variants=a,b] \
        [--shard=i/n] [--split=test] [--checkpoint=best] [--dry_run] [--config.data.name=... for all]

Each run is `W/<variant>/seed<k>`, a workdir of `p10k_jax.train` like any other, trained and evaluated by processes of
its own; this one never opens a device. The same command again does what is left. docs/ablations.md tells more.
"""

import functools
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict

from p10k_jax import setup
from p10k_jax.ablation.children import Signals, run_child
from p10k_jax.ablation.report import as_text, write_report
from p10k_jax.ablation.runs import (
    Judged,
    Run,
    conflict,
    held,
    is_finished,
    is_trained,
    make_runs,
    of_shard,
    parse_shard,
    read_failure,
    seeds_on_disk,
    what_is_left,
    write_failure,
)
from p10k_jax.ablation.summary import summarise
from p10k_jax.ablation.variants import build, check_known, read_variants
from p10k_jax.config import clear_errors, define_config_flag, run_program
from p10k_jax.reporting.progress import Console

COMPILED = "compiled"


class Ablation(NamedTuple):
    """An ablation that was checked and is ready to start.

    Attributes:
        workdir: Of the ablation.
        configs: By variant; the first is the base.
        runs: All of them, of every shard, and whatever else of the variants lies in the workdir.
        mine: Those of this shard.
        judged: How they are evaluated.
        command: For a shell.
    """

    workdir: Path
    configs: dict[str, ConfigDict]
    runs: list[Run]
    mine: list[Run]
    judged: Judged
    command: str


def split_arguments(argv: Iterable[str]) -> tuple[str, str | None, list[str]]:
    """The config's file, its argument, and the overrides `--config.a.b=value`, out of a command line."""
    words = iter(argv)
    config, overrides = "", []
    for word in words:
        if match := re.fullmatch(r"--?config(?:=(.*))?", word):
            config = match[1] if match[1] is not None else next(words)
        elif re.match(r"--?(no)?config\.", word):
            if "=" not in word and not re.match(r"--?noconfig\.", word):
                raise ValueError(f"{word}: write it as {word}=VALUE.")
            overrides.append(word)
    file, _, arg = config.partition(":")
    return file, arg or None, overrides


def plan(
    file: str,
    arg: str | None,
    overrides: Sequence[str],
    workdir: Path,
    *,
    seeds: int = 3,
    variants: Sequence[str] = (),
    shard: str = "1/1",
    split: str = "test",
    checkpoint: str = "best",
    command: str = "",
) -> Ablation:
    """Checks everything that needs neither data nor a device; writes nothing.

    Args:
        file, arg: `--config=FILE:ARG`, see `p10k_jax.ablation.variants`.
        overrides: `--config.a.b=value`, for all variants.
        workdir: Of the ablation.
        seeds: How many a variant.
        variants: Which; empty: all. The base is the file's first, whether chosen or not.
        shard: `i/n`, i from 1 to n.
        split, checkpoint: As for `p10k_jax.evaluate`.
        command: For a shell, for the record.

    Raises:
        ValueError: no such variant, one that does not fit, an override of what is varied, a bad seed or shard.
    """
    if re.search(r"(^|,)variant=", arg or ""):
        raise ValueError(f"--config={file}:{arg}: p10k_jax.ablate runs the variants; choose with --variants=a,b.")
    if seeds < 1:
        raise ValueError(f"--seeds={seeds}: give at least 1.")
    if any(re.match(r"--?config\.seed(=|$)", override) for override in overrides):
        raise ValueError("--config.seed: seeds are what --seeds counts; leave it out.")
    number, count = parse_shard(shard)
    if checkpoint not in ("best", "last") and not checkpoint.isdecimal():
        raise ValueError(f"--checkpoint={checkpoint}: give best, last or a step.")
    known = read_variants(Path(file), arg)
    check_known(known, variants)
    # All are built, also those that are not run: a mistake is told today, not when its turn comes.
    configs = build(file, arg, known, overrides)
    for name, config in configs.items():
        if checkpoint == "best" and not config.eval.split:
            raise ValueError(f"variant {name!r} has no eval.split, so that no checkpoint is best: --checkpoint=last.")
    seen = seeds_on_disk(workdir, known)
    every = sorted(set(range(seeds)).union(*seen.values()))
    runs = make_runs(workdir, configs, every, file=file, arg=arg, overrides=overrides)
    chosen = [run for run in runs if run.seed < seeds and (not variants or run.variant in variants)]
    # The table has whatever is there, too.
    runs = [run for run in runs if run in chosen or run.seed in seen[run.variant]]
    shown = {run.variant for run in runs} | {next(iter(known))}
    configs = {name: config for name, config in configs.items() if name in shown}
    return Ablation(workdir, configs, runs, of_shard(chosen, (number, count)), Judged(split, checkpoint), command)


def execute(ablation: Ablation, console: Console) -> int:
    """Does what is left of this shard's runs and keeps the table. Returns the exit code."""
    left = [run for run in ablation.mine if conflict(run) or not is_finished(run, ablation.judged)]
    _prepare(run for run in left if not conflict(run) and not is_trained(run))
    ablation.workdir.mkdir(parents=True, exist_ok=True)
    signals = Signals()
    failed, elsewhere = [], []
    with signals.listening():
        for number, run in enumerate(ablation.mine, start=1):
            label = f"run {number} of {len(ablation.mine)}: {run.variant} seed {run.seed}"
            if run not in left:
                write_failure(run, "")
                console.say(f"{label}: finished before")
                continue
            with held(run) as descriptor:
                if descriptor is None:
                    elsewhere.append(label)
                    console.say(f"{label}: another process is at it")
                    continue
                write_failure(run, "")
                if not conflict(run) and is_finished(run, ablation.judged):
                    console.say(f"{label}: another process has finished it meanwhile")
                    continue
                complaint = conflict(run) or _do(run, ablation, label, descriptor, signals, console)
                if signals.received:
                    return _interrupted(label, signals.received[0], ablation, console)
                write_failure(run, complaint)
            if complaint:
                failed.append(label)
                console.say(f"{label} failed; its log is {run.log}\n{complaint}")
            report(ablation)
    summary = report(ablation)
    console.say(as_text(summary))
    console.say(
        f"Everything lies in {ablation.workdir}: ablation.html, ablation.md, ablation.csv, ablation.json, logs/"
    )
    if elsewhere:
        console.say("Left to another process; the same command takes up what it leaves:\n  " + "\n  ".join(elsewhere))
    if failed:
        console.say("Failed:\n  " + "\n  ".join(failed))
    return 1 if failed else 0


def _prepare(runs: Iterable[Run]) -> None:
    """Prepares the data that the runs train on, each once."""
    seen = set()
    for run in runs:
        data = run.config.data
        if (key := (data.name, data.config, data.data_dir, data.manual_dir)) not in seen:
            seen.add(key)
            setup.prepare_data(run.config)


def _do(run: Run, ablation: Ablation, label: str, lock: int, signals: Signals, console: Console) -> str:
    """Trains and evaluates what is left; returns why it failed, or an empty text."""
    child = functools.partial(
        run_child,
        log=run.log,
        relay=lambda line: console.live(f"{label}: {line}"),
        signals=signals,
        # What one run has compiled serves the others.
        environment={
            "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR")
            or str((ablation.workdir / COMPILED).absolute())
        },
        inherited=[lock],
    )
    split, checkpoint = ablation.judged
    programs = {
        "p10k_jax.train": [*run.arguments, f"--workdir={run.workdir}"],
        "p10k_jax.evaluate": [f"--workdir={run.workdir}", f"--split={split}", f"--checkpoint={checkpoint}"],
    }
    if is_trained(run):
        del programs["p10k_jax.train"]
    for module, arguments in programs.items():
        console.live(f"{label}: {module} starts")
        ended = child(module, arguments)
        if ended.code:
            return ended.complaint(module)
        if signals.received:
            return ""
    if not is_finished(run, ablation.judged):
        return f"{run.workdir} was trained and evaluated, and yet it is not finished: was it moved, or made long ago?"
    console.say(f"{label}: done")
    return ""


def _interrupted(label: str, number: int, ablation: Ablation, console: Console) -> int:
    report(ablation)
    console.say(f"Stopped by {signal.Signals(number).name} in {label}. The same command goes on from there.")
    return 128 + number


def report(ablation: Ablation) -> dict:
    """Writes the table of what is there and returns its data."""
    summary = summarise(ablation.runs, ablation.configs, ablation.judged, command=ablation.command)
    write_report(ablation.workdir, summary)
    return summary


def listing(ablation: Ablation) -> str:
    """What would be done."""
    lines = [f"{len(ablation.mine)} of {len(ablation.runs)} runs are this machine's"]
    for number, run in enumerate(ablation.mine, start=1):
        refused = conflict(run).splitlines()
        left = f"fail: {refused[0]}" if refused else what_is_left(run, ablation.judged)
        again = "; failed before" if left != "nothing" and not refused and read_failure(run) else ""
        lines.append(f"{number:>4}  {run.variant} seed {run.seed}: {left}{again}")
        if left != "nothing":
            words = ["python", "-m", "p10k_jax.train", *run.arguments, f"--workdir={run.workdir}"]
            lines.append(f"      {shlex.join(words)}")
    return "\n".join(lines)


def main() -> None:
    """Runs the ablation; ends with 1 if any run failed."""
    given, console = flags.FLAGS, Console(alone=True)
    with clear_errors():
        file, arg, overrides = split_arguments(sys.argv[1:])
        ablation = plan(
            file,
            arg,
            overrides,
            setup.local_folder(given.workdir, setting="workdir"),
            seeds=given.seeds,
            variants=given.variants,
            shard=given.shard,
            split=given.split,
            checkpoint=given.checkpoint,
            command=shlex.join(["python", "-m", "p10k_jax.ablate", *sys.argv[1:]]),
        )
        if given.dry_run:
            print(listing(ablation))
            return
        try:
            code = execute(ablation, console)
        except KeyboardInterrupt:  # before the first run; later ones are waited for
            console.say("Stopped while preparing the data. The same command goes on from there.")
            code = 128 + signal.SIGINT
    sys.exit(code)


def define_flags() -> None:
    """Defines this program's flags."""
    define_config_flag()
    flags.DEFINE_string("workdir", None, "Folder of the ablation.")
    flags.DEFINE_integer("seeds", 3, "Runs a variant, with seeds 0 to this number - 1.")
    flags.DEFINE_list("variants", [], "Which, separated by commas; default: all.")
    flags.DEFINE_string("shard", "1/1", "i/n, i from 1 to n: of n machines the i-th, which takes every n-th run.")
    flags.DEFINE_string("split", "test", "Split to evaluate.")
    flags.DEFINE_string("checkpoint", "best", "best (by validation top-1), last, or a step.")
    flags.DEFINE_bool("dry_run", False, "List the runs and what would be done.")


if __name__ == "__main__":
    run_program(main, define_flags, required=("config", "workdir"))
