"""Compares training input pipelines: ours, timm's, tf.data and DALI, on the same photos, cores and budget.

    pip install -e . -r tests/peers/requirements.txt
    python -m tests.peers.input --photos=RAW --scratch=SCRATCH [--rounds=5] [--seconds=20] [--threads=2] [--json=FILE]

RAW is a catalogue in the raw layout (docs/data.md). Its training photos are enlarged to 800 pixels and written into
SCRATCH once. Every pipeline runs in a process of its own, one after the other, in each round in turn; ratios are of the
same round. What is not installed is named and left out. See `tests/peers/loaders.py` for what each one does.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from p10k_jax.reporting.text_tables import markdown
from tests.peers.loaders import BASELINE, BY_NAME, LOADERS, Loader
from tests.peers.photos import prepare_photos
from tests.peers.ratios import Timing, ratio, spread
from tfds_builder.processing import available_cores
from tfds_builder.raw import RawLayoutError

ROOT = Path(__file__).parents[2]
# Nobody may use an accelerator; and no log lines.
_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}


def installed(package: str) -> bool:
    """Whether it can be imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of the parent
        return False


def missing(loaders: Sequence[Loader]) -> list[str]:
    """A line for each package that is not installed."""
    lacking = {loader.package: loader.requirement for loader in loaders if not installed(loader.package)}
    return [f"{package} is not installed and left out: pip install {name}" for package, name in lacking.items()]


def measure(loader: Loader, flags: argparse.Namespace) -> Timing:
    """One measurement in a process of its own.

    Raises:
        RuntimeError: it failed; with its last words.
    """
    command = [sys.executable, "-m", "tests.peers.timed", loader.name, f"--scratch={flags.scratch.absolute()}"]
    command += [f"--threads={flags.threads}", f"--batch_size={flags.batch_size}", f"--seconds={flags.seconds}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | _ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{loader.name} failed:\n{done.stderr[-2000:]}")
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


def table(timings: dict[str, list[Timing]]) -> str:
    """Markdown: a row for each pipeline, with ratios to timm on the originals and to tf.data on the same files.

    Args:
        timings: Name of a pipeline to what each round gave.
    """
    per_core = {name: [one.rate_per_core for one in rounds] for name, rounds in timings.items()}

    def against(name: str, other: str) -> str:
        return ratio(per_core[name], per_core[other]).text(".2f") if other in per_core else ""

    def same_files(name: str, peer: str) -> str:
        files = BY_NAME[name].files
        return next(other.name for other in LOADERS if other.files == files and other.name.startswith(peer))

    header = ["pipeline", "images/s", "images per CPU-second", f"times {BASELINE.name}", "times tf.data, same photos"]
    rows = [
        [
            name,
            spread([one.rate for one in rounds]).text(",.0f"),
            spread(per_core[name]).text(",.0f"),
            against(name, BASELINE.name),
            against(name, same_files(name, "tf.data")),
        ]
        for name, rounds in timings.items()
    ]
    return markdown(header, rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; argparse exits with status 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers.input", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--photos", type=Path, required=True, metavar="RAW", help="a catalogue in the raw layout, docs/data.md")
    add("--scratch", type=Path, required=True, help="folder for about 1.5 GB of photos, builds and canvases; kept")
    add("--rounds", type=int, default=5, help="times that each pipeline is measured")
    add("--seconds", type=float, default=20.0, help="length of a measurement, after half as long to warm up")
    add("--threads", type=int, default=available_cores(), help="cores, and threads or workers on them; default: all")
    add("--batch_size", type=int, default=64)
    add("--only", default="", help="parts of names, for example timm,originals; default: all")
    add("--json", type=Path, metavar="FILE", help="also write every measurement there")
    flags = parser.parse_args(arguments)
    for name in ("rounds", "seconds", "threads", "batch_size"):
        if getattr(flags, name) <= 0:
            parser.error(f"--{name}={getattr(flags, name)} must be above 0")
    if flags.threads > available_cores():
        parser.error(f"--threads={flags.threads}, but there are {available_cores()} cores")
    if not chosen(flags.only):
        parser.error(f"--only={flags.only} is part of no name; known: {'; '.join(BY_NAME)}")
    return flags


def chosen(only: str) -> list[Loader]:
    """The pipelines that `--only` names."""
    return [loader for loader in LOADERS if any(part.strip() in loader.name for part in only.split(","))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepares, measures and prints; returns the exit status: 0, or 2 for bad input."""
    flags = parse(arguments)
    loaders = chosen(flags.only)
    for line in missing(loaders):
        print(line, file=sys.stderr)
    try:
        prepare_photos(flags.photos, flags.scratch)
    except (RawLayoutError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    timings: dict[str, list[Timing]] = {loader.name: [] for loader in loaders if installed(loader.package)}
    for number in range(flags.rounds):
        for name, rounds in timings.items():
            rounds.append(measure(BY_NAME[name], flags))
            told = f"round {number + 1} of {flags.rounds}: {name}: {rounds[-1].rate:,.0f} images/s"
            print(told, file=sys.stderr, flush=True)
    print(f"{flags.threads} cores, batches of {flags.batch_size}, {flags.rounds} rounds of {flags.seconds:g} s\n")
    print(table(timings))
    if flags.json:
        told = {name: [one._asdict() for one in rounds] for name, rounds in timings.items()}
        flags.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
