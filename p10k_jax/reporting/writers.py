"""Where figures of a run go: one JSON object a line, and TensorBoard."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from p10k_jax.files import write_text


class MetricWriter:
    """Writes `metrics.jsonl` and `tensorboard/` in a workdir.

    Args:
        workdir: Made if need be.
        resumed_at: Step that the run starts from. What an earlier process wrote for later steps is dropped, for those
            steps are run again: every step stands in the file once.
    """

    def __init__(self, workdir: Path, *, resumed_at: int):
        self._path = Path(workdir) / "metrics.jsonl"
        rows = [row for row in read_metrics(self._path) if row["step"] <= resumed_at]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = self._path.open("a")
        self._before, self._started = max((row.get("seconds", 0.0) for row in rows), default=0.0), time.monotonic()
        folder = str(Path(workdir) / "tensorboard")
        # The suffix keeps the files of two processes apart that start within one second.
        self._tensorboard = SummaryWriter(
            folder, purge_step=resumed_at + 1 if resumed_at else None, filename_suffix=f".from{resumed_at}"
        )

    def write(self, step: int, figures: Mapping[str, float | int]) -> None:
        """Appends one row: `step`, `time` (seconds since 1970), `seconds` that the run has taken so far, over all
        processes that went on with it, and the figures."""
        seconds = self._before + time.monotonic() - self._started
        row = {"step": step, "time": round(time.time(), 3), "seconds": round(seconds, 3)} | dict(figures)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for key, value in figures.items():
            self._tensorboard.add_scalar(key, value, step)

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._tensorboard.close()


def read_metrics(path: Path) -> list[dict]:
    """Rows of a `metrics.jsonl`; none if there is no file. A last line that a kill cut short is passed over."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
