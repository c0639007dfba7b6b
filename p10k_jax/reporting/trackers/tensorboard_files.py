"""TensorBoard's event files in `tensorboard/`: scalars, images, hyperparameters."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

# What of `run.json` stands beside the settings.
_FACTS = ("parameters", "forward_flops", "device", "devices")


class TensorBoard:
    """One event file a process; TensorBoard reads a folder of them as one run.

    Args:
        folder: Made if need be.
        resumed_at: What earlier files hold of later steps is hidden, for those steps are run again.
    """

    def __init__(self, folder: Path, *, resumed_at: int):
        # The suffix keeps the files of two processes apart that start within one second.
        self._writer = SummaryWriter(
            str(folder), purge_step=resumed_at + 1 if resumed_at else None, filename_suffix=f".from{resumed_at}"
        )
        self._session_end = None

    def settings(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """For the HParams page, whose metrics are the training loss and, where there is a validation, its top-1."""
        told = dict(config) | {key: facts[key] for key in _FACTS if key in facts}
        values = {
            key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for key, value in told.items()
            if value is not None
        }
        split = config.get("eval.split")
        experiment, session_start, self._session_end = hparams(
            values, dict.fromkeys(["train/loss", *([f"{split}/top1"] if split else [])])
        )
        self._writer.file_writer.add_summary(experiment)
        self._writer.file_writer.add_summary(session_start)

    def figures(self, step: int, figures: Mapping[str, float | int]) -> None:
        """As scalars."""
        for key, value in figures.items():
            self._writer.add_scalar(key, value, step)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """As a PNG; TensorBoard has a slider over the steps."""
        self._writer.add_image(name, image, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Marks the session as ended and flushes."""
        if self._session_end is not None:
            self._writer.file_writer.add_summary(self._session_end)
        self._writer.close()


def open_tracker(workdir: Path, *, project: str, resumed_at: int, say: Callable[[str], None]) -> TensorBoard:
    """See `open_trackers`."""
    del project, say
    return TensorBoard(workdir / "tensorboard", resumed_at=resumed_at)
