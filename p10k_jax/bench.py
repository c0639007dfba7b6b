"""Measures what training does on this machine: its input, its step, its evaluation, its checkpoints.

    python -m p10k_jax.bench all --config=configs/vit.py:variant=B/16 --synthetic [--json]

The first word is what is measured: input, step, eval, checkpoint or all.
"""

import json
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from p10k_jax import setup, train
from p10k_jax.benchmarking import checkpoint, evaluation, input, step
from p10k_jax.benchmarking.report import report
from p10k_jax.benchmarking.subject import Subject, real, synthetic
from p10k_jax.config import clear_errors, config_of_flags, define_config_flag, run_program
from p10k_jax.hardware import find
from p10k_jax.planning.sizes import dataset_sizes

COMMANDS = ("input", "step", "eval", "checkpoint", "all")


def on_data(config: ConfigDict, folder: Path | None = None) -> Subject:
    """The training that the config says, with its data; prepares and decodes that if need be, and writes no workdir.

    Args:
        config: As given.
        folder: Where there must be room for checkpoints; default: the temporary folder.

    Raises:
        ValueError: as `p10k_jax.train.plan`.
    """
    nowhere = (folder or Path(tempfile.gettempdir())) / f"p10k_jax-{uuid.uuid4().hex}"  # is never made
    run = train.plan(config.copy_and_resolve_references(), nowhere)
    return real(
        run.config,
        split=run.split,
        decoded=run.decoded,
        mesh=run.mesh,
        order=run.order,
        program=lambda: train.plan(config.copy_and_resolve_references(), nowhere).program,
        evaluator=run.validate,
    )


def bench(subject: Subject, command: str, *, steps: int, folder: Path | None = None) -> dict[str, Any]:
    """The figures of what `command` names; `docs/speed.md` lists them.

    Raises:
        ValueError: it cannot be measured with this config.
    """
    if command == "input" and not subject.with_input:
        raise ValueError("No input to measure: the pixels lie on the devices. Set data.residency to stream or host.")
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "input": lambda: input.bench_input(subject, steps=steps),
        "step": lambda: step.bench_step(subject, steps=steps),
        "eval": lambda: evaluation.bench_evaluation(subject, steps=steps),
        "checkpoint": lambda: checkpoint.bench_checkpoint(subject, steps=steps, folder=folder),
    }
    wanted = [command]
    if command == "all":
        left_out = {name for name, there in (("input", subject.with_input), ("eval", subject.evaluation)) if not there}
        wanted = [name for name in makers if name not in left_out]
    device = jax.devices()[0].device_kind
    told = {
        "device": device,
        "devices": subject.mesh.devices.size,
        "chip": (chip := find(device)) and chip.name,
        "mesh": dict(subject.mesh.shape),
        "model": subject.config.model.name,
        "dtype": subject.config.model.dtype,
        "data": subject.data,
    }
    for name in wanted:
        print(f"{name} ...", file=sys.stderr)
        told[name] = makers[name]()
    return told


def main(command: str) -> None:
    """Reads the flags, measures, and prints."""
    given = flags.FLAGS
    with clear_errors():
        config = config_of_flags()
        folder = given.folder and setup.local_folder(given.folder, setting="folder")
        if folder and not folder.is_dir():
            raise ValueError(f"--folder={folder} is no folder.")
        if not given.synthetic and (given.examples or given.groups):
            raise ValueError("--examples and --groups are for --synthetic; data says itself how large it is.")
        if given.synthetic and command == "input":
            raise ValueError("--synthetic has no input to measure; prepare data (docs/data.md) and leave it out.")
        if given.synthetic:
            subject = synthetic(config, dataset_sizes(config, examples=given.examples, groups=given.groups))
        else:
            subject = on_data(config, folder)
        told = bench(subject, command, steps=given.steps, folder=folder)
    print(json.dumps(told, indent=2) if given.json else report(told))


def define_flags() -> None:
    """Defines this program's flags."""
    define_config_flag()
    flags.DEFINE_integer("steps", 20, "Steps of each of three windows that are timed.", lower_bound=1)
    flags.DEFINE_bool("synthetic", False, "Noise that stays on the devices instead of data.")
    flags.DEFINE_integer("examples", None, "With --synthetic: training images, of data not prepared.", lower_bound=1)
    flags.DEFINE_integer("groups", None, "Groups, likewise, for loss.group_weight.", lower_bound=1)
    flags.DEFINE_string("folder", None, "Where checkpoints are written to be measured; default: the temporary folder.")
    flags.DEFINE_bool("json", False, "Print JSON.")


if __name__ == "__main__":
    run_program(main, define_flags, required=("config",), commands=COMMANDS)
