"""The smallest real training run: a ViT of 67 thousand parameters on the `tiny` drawn catalogue."""

import os
import subprocess
import sys
from pathlib import Path

from ml_collections import ConfigDict

from configs import vit

SETTINGS = {
    "data.name": "drawn_catalogue",
    "data.config": "tiny",
    "data.image_size": 32,
    "data.threads": 2,
    "batch_size": 16,
    "model.options.depth": 2,
    "model.options.width": 48,
    "duration.epochs": None,
    "duration.steps": 30,
    "optimizer.name": "adamw",  # compiles in half of Muon's time
    "eval.batch_size": 8,
    "eval.every.percent": 20.0,
    "checkpoint.every.percent": 10.0,
    "log.every.steps": 1,
    "log.trackers": (),
}


def tiny_config(data_dir: Path, **overrides) -> ConfigDict:
    """The run's config; overrides are written `batch_size=8` or `**{"mesh.data": 1}`."""
    config = vit.get_config("variant=Ti/8")
    values = SETTINGS | {"data.data_dir": str(data_dir)} | overrides
    for key, value in values.items():
        node = config
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    return config


def flags(data_dir: Path, workdir: Path, **overrides) -> list[str]:
    """The same run as a command line."""
    values = SETTINGS | {"data.data_dir": str(data_dir)} | overrides
    settings = [f"--config.{key}={value}" for key, value in values.items() if value is not None]
    return ["--config=configs/vit.py:variant=Ti/8", f"--workdir={workdir}", *settings]


def start(program: str, arguments: list[str], **environment: str) -> subprocess.Popen:
    """Starts `python -m p10k_jax.<program>`, or a module of the tests, in the repository's root."""
    return subprocess.Popen(
        [sys.executable, "-m", program if program.startswith("tests.") else f"p10k_jax.{program}", *arguments],
        cwd=Path(__file__).parent.parent,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
