"""Weights & Biases; works without it being reachable: then the run is kept in `wandb/`, for `wandb sync`."""

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from jaxtyping import UInt8

from p10k_jax.reporting.trackers.identity import read_identity, write_identity

# Seconds. W&B's own defaults: 90, and for ever.
_INIT_TIMEOUT, _FINISH_TIMEOUT = 30.0, 45.0


class WeightsAndBiases:
    """A run of W&B. Steps are a figure of their own, for W&B's steps cannot go back, as a restart does.

    Args:
        workdir: Of the run.
        project: Of W&B.
        say: Shows a line to a person.
    """

    def __init__(self, workdir: Path, *, project: str, say: Callable[[str], None]):
        identity = read_identity(workdir, "wandb") or secrets.token_hex(4)
        write_identity(workdir, "wandb", identity)
        _keep_inside(workdir)
        mode = wandb.setup(_settings(workdir)).settings.mode
        settings = {"project": project, "name": workdir.name, "id": identity, "resume": "allow"}
        try:
            if mode in ("online", "shared"):
                _log_in()
            self._run = wandb.init(**settings)
        except wandb.Error as error:
            self._run = wandb.init(**settings, mode="offline")
            told = " ".join(str(error).split()).rstrip(".")
            say(f"{told}; {_kept(self._run)}")
        else:
            say(_kept(self._run) if mode == "offline" else self._run.url or mode)
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def settings(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """As the run's config, the facts under `run`."""
        self._run.config.update(_nested(config) | {"run": dict(facts)}, allow_val_change=True)

    def figures(self, step: int, figures: Mapping[str, float | int]) -> None:
        """As one row of the history."""
        self._run.log({**figures, "step": step})

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """As a PNG in a row of its own."""
        self._run.log({name: wandb.Image(image, file_type="png"), "step": step})

    def close(self) -> None:
        """Sends the rest, for at most 45 s; `wandb sync` sends what is left then."""
        self._run.finish()


def _settings(workdir: Path) -> wandb.Settings:
    inside = {} if "WANDB_DIR" in os.environ else {"root_dir": str(workdir)}
    return wandb.Settings(
        console="off",
        silent=True,
        init_timeout=_INIT_TIMEOUT,
        finish_timeout=_FINISH_TIMEOUT,
        save_code=False,
        **inside,
    )


def _keep_inside(workdir: Path) -> None:
    """W&B reads these from the environment alone, also in the process that it starts."""
    for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        os.environ.setdefault(variable, str(workdir / "wandb" / "cache"))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


def _log_in() -> None:
    """Raises wandb.Error where there is no key, or a wrong one, or no server; `init` would ask at the terminal."""
    if not wandb.login(prompt=False):
        raise wandb.errors.AuthenticationError("no API key: set WANDB_API_KEY, or run `wandb login`")


def _kept(run: wandb.Run) -> str:
    return f"offline; `wandb sync {Path(run.dir).parent}` sends the run"


def _nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested dicts: W&B asks for no dots in names, and shows nested ones with dots."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        *parents, leaf = key.split(".")
        node = out
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return out


def open_tracker(workdir: Path, *, project: str, resumed_at: int, say: Callable[[str], None]) -> WeightsAndBiases:
    """See `open_trackers`."""
    del resumed_at
    return WeightsAndBiases(workdir, project=project, say=say)
