"""Compares training steps: ours and timm's (torch.compile), of the same models, on one device, without any input.

    pip install -e .[cuda] -r tests/peers/requirements.txt
    python -m tests.peers.step [--models=vit_small_patch16_224,resnet50] [--batch_size=256] [--steps=50] [--rounds=3]

It takes a CUDA device where both JAX and torch see one, else the CPU. Every measurement is a process of its own, one
after the other, in each round in turn; ratios are of the same round. See `tests/peers/stepping.py` for what is timed.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from p10k_jax.reporting.text_tables import markdown
from tests.peers.ratios import ratio, spread
from tests.peers.stepping import SIDES, Speed

ROOT = Path(__file__).parents[2]
_PROBE = "import jax, torch; print(torch.cuda.is_available() and jax.default_backend() == 'gpu')"


def common_device() -> str:
    """`cuda` where both see one, else `cpu`; asked in another process, for JAX takes a device's memory at once."""
    told = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True)
    return "cuda" if told.stdout.split()[-1] == "True" else "cpu"


def measure(side: str, model: str, flags: argparse.Namespace) -> Speed:
    """One measurement in a process of its own.

    Raises:
        RuntimeError: it failed; with its last words.
    """
    command = [sys.executable, "-m", "tests.peers.stepping", side, model, f"--device={flags.device}"]
    command += [f"--batch_size={flags.batch_size}", f"--steps={flags.steps}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side} with {model} failed:\n{done.stderr[-2000:]}")
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def table(speeds: dict[str, dict[str, list[Speed]]]) -> str:
    """Markdown: a row for each model; `speeds` has model, then side, then what each round gave."""

    def memory(rounds: list[Speed]) -> str:
        known = [one.peak_bytes for one in rounds if one.peak_bytes is not None]
        return f"{max(known) / 1e9:.2f} GB" if known else "not told"

    rows = []
    for model, sides in speeds.items():
        rates = {side: [one.images_per_second for one in rounds] for side, rounds in sides.items()}
        row = [model, *(spread(rates[side]).text(",.1f") for side in SIDES)]
        rows.append([*row, ratio(rates["p10k_jax"], rates["timm"]).text(".2f"), *(memory(sides[s]) for s in SIDES)])
    header = [
        "model",
        *(f"{side}, images/s" for side in SIDES),
        "times timm",
        *(f"{side}, peak memory" for side in SIDES),
    ]
    return markdown(header, rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; argparse exits with status 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers.step", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", default="vit_small_patch16_224,resnet50", help="timm's names, with commas between them")
    add("--device", choices=("cpu", "cuda"), help="default: cuda where both see one")
    add("--batch_size", type=int, help="default: 256, and 8 on CPUs")
    add("--steps", type=int, default=50, help="of a measurement, after a few to warm up")
    add("--rounds", type=int, default=3, help="times that each side is measured")
    add("--json", type=Path, metavar="FILE", help="also write every measurement there")
    flags = parser.parse_args(arguments)
    for name in ("batch_size", "steps", "rounds"):
        if (value := getattr(flags, name)) is not None and value < 1:
            parser.error(f"--{name}={value} must be at least 1")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit status: 0, or 2 without timm."""
    flags = parse(arguments)
    if importlib.util.find_spec("timm") is None:
        print("timm is not installed: pip install -r tests/peers/requirements.txt", file=sys.stderr)
        return 2
    flags.device = flags.device or common_device()
    flags.batch_size = flags.batch_size or (256 if flags.device == "cuda" else 8)
    models = flags.models.split(",")
    speeds: dict[str, dict[str, list[Speed]]] = {model: {side: [] for side in SIDES} for model in models}
    for number in range(flags.rounds):
        for model in models:
            for side in SIDES:
                speeds[model][side].append(speed := measure(side, model, flags))
                told = f"round {number + 1} of {flags.rounds}: {model}: {side}: {speed.images_per_second:,.1f} images/s"
                print(told, file=sys.stderr, flush=True)
    print(f"{speed.device}, batches of {flags.batch_size}, {flags.rounds} rounds of {flags.steps} steps\n")
    print(table(speeds))
    if flags.json:
        told = {
            model: {side: [one._asdict() for one in rounds] for side, rounds in sides.items()}
            for model, sides in speeds.items()
        }
        flags.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
