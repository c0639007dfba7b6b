"""MLflow: the server that `MLFLOW_TRACKING_URI` names, or a store in `mlflow/`."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# MLflow otherwise reports its use to its makers, and writes into the home folder for that.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
from jaxtyping import UInt8
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from p10k_jax.reporting.trackers.identity import read_identity, write_identity

# A server refuses more: parameters a request, characters of a value.
_PARAMETERS_A_REQUEST, _VALUE_LENGTH = 100, 6000


class MLflow:
    """A run of MLflow, whose experiment is the project.

    MLflow takes nothing back. So a parameter keeps the value that the run started with, and of the steps that a restart
    does over, the figures that are there already stay: every step stands there once.

    Args:
        workdir: Of the run.
        project: Name of the experiment; made if need be.
        uri: Of the tracking server or store.
        say: Shows a line to a person.
    """

    def __init__(self, workdir: Path, *, project: str, uri: str, say: Callable[[str], None]):
        self._client = MlflowClient(tracking_uri=uri)
        place = f"mlflow {uri}"
        known = read_identity(workdir, place)
        self._run = known if known and self._goes_on(known) else self._created(project, workdir.name)
        write_identity(workdir, place, self._run)
        self._resumed = self._run == known
        self._there: dict[str, int] = {}
        say(f"run {self._run} at {uri}")

    def settings(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """As parameters, the facts under `run.`; long ones cut."""
        there = self._client.get_run(self._run).data.params
        told = dict(config) | {f"run.{key}": value for key, value in facts.items()}
        new = [Param(key, _text(value)[:_VALUE_LENGTH]) for key, value in told.items() if key not in there]
        for start in range(0, len(new), _PARAMETERS_A_REQUEST):
            self._client.log_batch(self._run, params=new[start : start + _PARAMETERS_A_REQUEST])

    def figures(self, step: int, figures: Mapping[str, float | int]) -> None:
        """As metrics."""
        now = time.time_ns() // 1_000_000
        new = [Metric(key, float(value), now, step) for key, value in figures.items() if step > self._last_step(key)]
        if new:
            self._client.log_batch(self._run, metrics=new)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """As a PNG with its step among the run's images."""
        self._client.log_image(self._run, image, key=name, step=step, synchronous=True)

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self._run)

    def _last_step(self, key: str) -> int:
        if key not in self._there:
            history = self._client.get_metric_history(self._run, key) if self._resumed else []
            self._there[key] = max((metric.step for metric in history), default=-1)
        return self._there[key]

    def _goes_on(self, run: str) -> bool:
        try:
            self._client.update_run(run, status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def _created(self, project: str, name: str) -> str:
        experiment = self._client.get_experiment_by_name(project)
        identity = experiment.experiment_id if experiment else self._client.create_experiment(project)
        return self._client.create_run(identity, run_name=name).info.run_id


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def open_tracker(workdir: Path, *, project: str, resumed_at: int, say: Callable[[str], None]) -> MLflow:
    """See `open_trackers`."""
    del resumed_at
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        # A database would take SQLAlchemy and Alembic, 33 MB more; MLflow 3 wants to hear that files are meant.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = (workdir / "mlflow").as_uri()
    return MLflow(workdir, project=project, uri=uri, say=say)
