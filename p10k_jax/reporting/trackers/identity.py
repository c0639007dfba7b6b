"""`trackers.json`: the run's names in trackers, so that a restart goes on in the same run there."""

import threading
from pathlib import Path

from p10k_jax.files import read_object, write_json

FILE = "trackers.json"
_writing = threading.Lock()  # trackers work in threads of their own


def read_identity(workdir: Path, place: str) -> str | None:
    """The run's id in a place, as `wandb` or `mlflow http://host`; None where it has none yet."""
    return _read(workdir).get(place)


def write_identity(workdir: Path, place: str, identity: str) -> None:
    """Keeps the run's id in a place."""
    with _writing:
        write_json(workdir / FILE, _read(workdir) | {place: identity})


def _read(workdir: Path) -> dict[str, str]:
    path = workdir / FILE
    return read_object(path, "take it away: a new run begins in the trackers") if path.exists() else {}
