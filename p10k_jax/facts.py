"""`run.json`: what a run was beside its settings: command, cost, hardware, versions."""

import importlib.metadata
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import jax

from p10k_jax.files import read_object, write_json
from p10k_jax.models.cost import count_parameters, forward_flops
from p10k_jax.models.functional import Model

FILE = "run.json"
_PACKAGES = ("p10k_jax", "jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets")


def facts(model: Model, image_size: int) -> dict[str, Any]:
    """What is known when a process starts to train.

    Returns:
        `command` (for a shell; empty in a notebook, which has none), `parameters`, `forward_flops` (of one image of
        `image_size` pixels), `image_size`, `device` (its kind), `devices`, `hosts`, and the `versions` of Python and of
        packages. Training adds `total_steps`.
    """
    return {
        "command": _command(),
        "parameters": count_parameters(model),
        "forward_flops": forward_flops(model, image_size),
        "image_size": image_size,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "hosts": jax.process_count(),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
    }


def _command() -> str:
    if Path(sys.argv[0]).name.endswith("kernel_launcher.py"):  # Jupyter's, Colab's
        return ""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", spec.name.removesuffix(".__main__")] if spec else [sys.argv[0]]
    return shlex.join([*program, *sys.argv[1:]])


def write_facts(workdir: Path, told: dict[str, Any]) -> None:
    """Writes `run.json`."""
    write_json(workdir / FILE, told)


def read_facts(workdir: Path) -> dict[str, Any]:
    """Reads `run.json`; empty for a workdir that has none, as of a soup."""
    path = workdir / FILE
    return read_object(path, "take it away: it tells of the run's cost and versions alone") if path.exists() else {}
