"""Reads what trackers have written by the files' formats, without the programs that show them.

As a program it trains the smallest run, and tells as JSON what stands in W&B's and MLflow's files:

    python -m tests.tracker_files DATA_DIR WORKDIR STEPS

in a process of its own, because both warn when they are imported.
"""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

TRACKERS = ("tensorboard", "wandb", "mlflow")


def read_events(path: Path) -> list[Event]:
    """Events of a TensorBoard file: TFRecords, i.e. length uint64, its CRC, bytes, their CRC."""
    data, at, events = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        events.append(Event.FromString(data[at + 12 : at + 12 + length]))
        at += 16 + length
    return events


def read_wandb(path: Path) -> dict:
    """Ids, config and history of a `.wandb` file."""
    from wandb.proto.wandb_internal_pb2 import Record

    out = {"run": "", "project": "", "name": "", "config": {}, "history": [], "metrics": []}
    for record in map(Record.FromString, _leveldb_records(path.read_bytes())):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            out |= {"run": record.run.run_id, "project": record.run.project, "name": record.run.display_name}
        if kind in ("run", "config"):
            config = record.run.config if kind == "run" else record.config
            out["config"] |= {item.key: json.loads(item.value_json) for item in config.update}
        if kind == "metric":
            out["metrics"].append([record.metric.name or record.metric.glob_name, record.metric.step_metric])
        if kind == "history":
            row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            out["history"].append(row)
    return out


def _leveldb_records(data: bytes) -> Iterator[bytes]:
    """LevelDB's log format: blocks of 32 KiB of fragments (CRC, length, type), here after W&B's 7 bytes of its own."""
    at, parts = 7, b""
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last fragment
            yield parts
            parts = b""


def read_mlflow(workdir: Path) -> list[dict]:
    """The runs of a store, by MLflow's own client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(workdir / "mlflow").as_uri())
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    out = []
    for run in client.search_runs(experiments):
        history = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        out.append(
            {
                "run": run.info.run_id,
                "name": run.info.run_name,
                "status": run.info.status,
                "experiment": client.get_experiment(run.info.experiment_id).name,
                "params": run.data.params,
                "metrics": {key: [[one.step, one.value] for one in values] for key, values in history.items()},
                "images": [item.path for item in client.list_artifacts(run.info.run_id, "images")],
            }
        )
    return out


def main(data_dir: Path, workdir: Path, steps: int) -> None:
    """Trains up to so many steps of 30; a checkpoint lies at step 20."""
    from p10k_jax.reporting.progress import Console
    from p10k_jax.train import plan, train
    from tests.runs import tiny_config

    settings = {"log.trackers": TRACKERS, "log.project": "shelf", "eval.every.percent": 100.0}
    every = {"checkpoint.every.percent": None, "checkpoint.every.steps": 20}
    run = plan(tiny_config(data_dir, **settings, **every), workdir)._replace(total_steps=steps)
    train(run, Console(sys.stdout))
    files = sorted((workdir / "wandb").glob("*run-*/*.wandb"))
    told = {"wandb": [read_wandb(path) for path in files], "mlflow": read_mlflow(workdir)}
    print("told:" + json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
