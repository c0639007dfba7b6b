"""Where figures of a run go: one JSON object a line, always, and the trackers."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from p10k_jax.files import write_text
from p10k_jax.reporting.trackers import Tracker


class MetricWriter:
    """Writes `metrics.jsonl` in a workdir, and hands on to trackers.

    Args:
        workdir: Made if need be.
        resumed_at: Step that the run starts from. What an earlier process wrote for later steps is dropped, for those
            steps are run again: every step stands in the file once.
        owed: What the figures of that step itself begin with that are written again.
        trackers: Opened; closed with the file.
        say: Is told when rows cannot be written; `lost` then says whether they still are not.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        resumed_at: int,
        owed: str | None = None,
        trackers: Sequence[Tracker] = (),
        say: Callable[[str], None] = lambda text: None,
    ):
        self._trackers, self._say, self.lost = tuple(trackers), say, False
        self._path = Path(workdir) / "metrics.jsonl"
        rows = [row for row in read_metrics(self._path) if row["step"] <= resumed_at]
        if owed:
            rows = [row for row in rows if row["step"] < resumed_at or not any(key.startswith(owed) for key in row)]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = self._path.open("a")
        self._before, self._started = max((row.get("seconds", 0.0) for row in rows), default=0.0), time.monotonic()

    def write(self, step: int, figures: Mapping[str, float | int]) -> None:
        """Appends one row: `step`, `time` (seconds since 1970), `seconds` that the run has taken so far, over all
        processes that went on with it, and the figures."""
        seconds = self._before + time.monotonic() - self._started
        row = {"step": step, "time": round(time.time(), 3), "seconds": round(seconds, 3)} | dict(figures)
        self._write(json.dumps(row) + "\n")
        for tracker in self._trackers:
            tracker.figures(step, dict(figures))

    def settings(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Hands the flat config and the facts of `run.json` to the trackers; the workdir has files for them."""
        for tracker in self._trackers:
            tracker.settings(config, facts)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Hands a picture to the trackers."""
        for tracker in self._trackers:
            tracker.picture(step, name, image)

    @property
    def shows_pictures(self) -> bool:
        """Whether anybody takes them."""
        return bool(self._trackers)

    def close(self) -> None:
        """Flushes and closes all."""
        self._write("")
        with contextlib.suppress(OSError):  # it flushes again
            self._file.close()
        for tracker in self._trackers:
            tracker.close()

    def _write(self, text: str) -> None:
        """A full disk does not end a run. What could not be written stays in the file's buffer and is tried again."""
        try:
            self._file.write(text)
            self._file.flush()
            self.lost = False
        except OSError as error:
            if not self.lost:
                self._say(f"ROWS OF {self._path} ARE NOT WRITTEN: {error}. Training goes on.")
            self.lost = True


def read_metrics(path: Path) -> list[dict]:
    """Rows of a `metrics.jsonl`; none if there is no file.

    What is no object with a `step` and numbers, as a last line that a kill cut short, is passed over.
    """
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if _is_row(row):
            rows.append(row)
    return rows


def _is_row(row: Any) -> bool:
    """Whether it is what `MetricWriter` writes."""
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return False
    return all(type(value) is float or (type(value) is int and abs(value) < 2**63) for value in row.values())


def images_per_second(rows: Iterable[Mapping]) -> float:
    """Median over a run's rows; 0.0 without any."""
    speeds = [row["train/images_per_second"] for row in rows if row.get("train/images_per_second")]
    return float(statistics.median(speeds)) if speeds else 0.0
