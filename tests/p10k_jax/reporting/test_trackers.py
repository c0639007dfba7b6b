"""What trackers keep, read back from their files; that a restart goes on there; that a failing one harms nothing."""

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p10k_jax.config import read_workdir
from p10k_jax.facts import read_facts
from p10k_jax.reporting.progress import Console
from p10k_jax.reporting.trackers import check_trackers, tensorboard_files
from p10k_jax.reporting.trackers.aside import Aside
from p10k_jax.reporting.trackers.tensorboard_files import TensorBoard
from p10k_jax.reporting.writers import MetricWriter, read_metrics
from p10k_jax.train import plan, train
from tests.runs import tiny_config
from tests.tracker_files import read_events

ROOT = Path(__file__).parents[3]
PICTURE = np.random.RandomState(0).randint(0, 256, (5, 7, 3)).astype(np.uint8)


def child(*arguments: str, home: Path, **environment: str) -> str:
    """Output of a Python process that knows nothing of the user's accounts."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "MLFLOW_"))}
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=kept | {"HOME": str(home), "NETRC": str(home / "netrc")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


def values_of(folder: Path) -> list:
    """All values of the event files, oldest first, each with its step."""
    files = sorted(folder.iterdir(), key=lambda path: int(path.name.rpartition("from")[2]))
    return [(event.step, value) for path in files for event in read_events(path) for value in event.summary.value]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def tracked(tiny_data, tmp_path_factory):
    """A run that all trackers followed, stopped after step 22 and gone on with from step 20; what each process told."""
    workdir, home = tmp_path_factory.mktemp("tracked") / "shelf 1", tmp_path_factory.mktemp("home")
    outputs = []
    for steps in ("22", "30"):
        program = ("-m", "tests.tracker_files", str(tiny_data), str(workdir), steps)
        outputs.append(child(*program, home=home, WANDB_MODE="offline"))
    assert "tracker" in outputs[0]
    assert "switched off" not in "".join(outputs)
    assert not list(home.rglob("*")), "nothing is written outside of the workdir"
    return workdir, [json.loads(output.rpartition("told:")[2]) for output in outputs]


def train_rows(workdir: Path) -> dict[int, dict]:
    return {row["step"]: row for row in read_metrics(workdir / "metrics.jsonl") if "train/loss" in row}


@pytest.mark.long
def test_wandb_offline_holds_the_run_and_a_restart_goes_on_in_it(tracked):
    workdir, (_, told) = tracked
    first, second = told["wandb"]
    assert first["run"] == second["run"] == json.loads((workdir / "trackers.json").read_text())["wandb"]
    assert (first["project"], first["name"]) == ("shelf", "shelf 1")
    assert ["*", "step"] in first["metrics"]
    assert ["*", "step"] in second["metrics"]
    config = read_workdir(workdir).to_dict()
    assert first["config"]["optimizer"]["learning_rate"] == config["optimizer"]["learning_rate"]
    assert first["config"]["run"]["parameters"] == read_facts(workdir)["parameters"]
    rows = train_rows(workdir)
    losses = [
        [(row["step"], row["train/loss"]) for row in run["history"] if "train/loss" in row] for run in (first, second)
    ]
    assert losses[0][:20] == [(step, rows[step]["train/loss"]) for step in range(1, 21)]
    assert losses[1] == [(step, rows[step]["train/loss"]) for step in range(21, 31)]
    (top1,) = [row["validation/top1"] for row in second["history"] if "validation/top1" in row]
    assert top1 == read_metrics(workdir / "metrics.jsonl")[-1]["validation/top1"]
    shown = {step: value for step, value in values_of(workdir / "tensorboard") if value.tag == "training_views"}
    for run, step in ((first, 1), (second, 21)):
        (row,) = [row for row in run["history"] if "training_views/path" in row]
        assert row["step"] == step
        (path,) = workdir.glob(f"wandb/*-run-*/files/{row['training_views/path']}")
        assert pixels(path.read_bytes()).shape == (4 * 32 + 3 * 2, 4 * 32 + 3 * 2, 3)
        np.testing.assert_array_equal(pixels(path.read_bytes()), pixels(shown[step].image.encoded_image_string))


@pytest.mark.long
def test_mlflow_holds_one_run_with_every_step_once(tracked):
    workdir, (before, told) = tracked
    (run,) = told["mlflow"]
    assert run["run"] == before["mlflow"][0]["run"]
    assert (run["experiment"], run["name"], run["status"]) == ("shelf", "shelf 1", "FINISHED")
    assert before["mlflow"][0]["metrics"]["train/loss"][-1][0] == 22
    rows = train_rows(workdir)
    assert run["metrics"]["train/loss"] == [[step, rows[step]["train/loss"]] for step in range(1, 31)]
    assert [step for step, _ in run["metrics"]["validation/top1"]] == [30]
    assert run["params"]["batch_size"] == "16"
    assert run["params"]["model.name"] == "vit-Ti/8"
    assert run["params"]["data.mean"] == "[0.485, 0.456, 0.406]"
    assert run["params"]["run.parameters"] == str(read_facts(workdir)["parameters"])
    images = [re.search(r"training_views\W+step\W+(\d+)\W.*\.png$", path) for path in run["images"]]
    assert sorted(int(found.group(1)) for found in images if found) == [1, 21]


@pytest.mark.long
def test_tensorboard_holds_scalars_pictures_and_hyperparameters(tracked):
    workdir, _ = tracked
    values = values_of(workdir / "tensorboard")
    rows = train_rows(workdir)
    losses = [(step, value.simple_value) for step, value in values if value.tag == "train/loss"]
    assert [step for step, _ in losses] == [*range(1, 23), *range(21, 31)]
    np.testing.assert_allclose(
        [loss for _, loss in losses], [rows[step]["train/loss"] for step, _ in losses], rtol=1e-6
    )
    assert [step for step, value in values if value.tag == "training_views"] == [1, 21]
    second = sorted((workdir / "tensorboard").glob("*.from20"))[0]
    assert [event.step for event in read_events(second) if event.session_log.status] == [21]  # hides what came later


def test_tensorboard_pixels_and_hyperparameters(tmp_path):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    board = TensorBoard(tmp_path, resumed_at=0)
    config = {"eval.split": "validation", "optimizer.learning_rate": 0.5, "optimizer.b2": None, "data.pad": False}
    board.settings(config | {"data.mean": [0.5, 0.25, 0.0]}, {"parameters": 12, "device": "abacus", "versions": {}})
    board.figures(3, {"train/loss": 0.25})
    board.picture(4, "views", PICTURE)
    board.close()
    values = values_of(tmp_path)
    assert [(step, value.simple_value) for step, value in values if value.tag == "train/loss"] == [(3, 0.25)]
    ((step, image),) = [(step, value.image) for step, value in values if value.tag == "views"]
    assert (step, image.height, image.width) == (4, 5, 7)
    np.testing.assert_array_equal(pixels(image.encoded_image_string), PICTURE)
    told = [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for _, value in values
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]
    experiment, start, end = told
    assert [metric.name.tag for metric in experiment.experiment.metric_infos] == ["train/loss", "validation/top1"]
    hparams = start.session_start_info.hparams
    assert {key: getattr(value, value.WhichOneof("kind")) for key, value in hparams.items()} == {
        "eval.split": "validation",
        "optimizer.learning_rate": 0.5,
        "data.pad": False,
        "data.mean": "[0.5, 0.25, 0.0]",
        "parameters": 12.0,
        "device": "abacus",
    }
    assert {info.name for info in experiment.experiment.hparam_infos} == set(hparams)
    assert end.session_end_info.status == 1  # success


def test_settings_of_trackers_are_checked_before_anything_is_written(tiny_data, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"log\.trackers: 'neptune' is unknown; known: tensorboard, wandb, mlflow"):
        plan(tiny_config(tiny_data, **{"log.trackers": ("neptune",)}), tmp_path / "workdir")
    with pytest.raises(ValueError, match=r"log\.trackers='wandb' must be a tuple"):
        check_trackers("wandb")
    with pytest.raises(ValueError, match="different names"):
        check_trackers(("wandb", "wandb"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'wandb' is not installed; pip install p10k_jax\[wandb\]"):
        plan(tiny_config(tiny_data, **{"log.trackers": ("wandb",)}), tmp_path / "workdir")
    assert not list(tmp_path.iterdir())


class Failing:
    """Fails at step 3."""

    def settings(self, config, facts):
        pass

    def figures(self, step, figures):
        if step == 3:
            raise ConnectionError("the server\nis gone")

    def picture(self, step, name, image):
        pass

    def close(self):
        raise AssertionError("is not called after a failure")


def test_a_tracker_that_fails_is_said_once_and_the_run_is_the_same(finished, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard_files, "open_tracker", lambda *_, **__: Failing())
    stream = io.StringIO()
    config = tiny_config(tiny_data, **{"log.trackers": ("tensorboard",)})
    train(plan(config, tmp_path / "workdir"), Console(stream))
    said = [line for line in stream.getvalue().splitlines() if line.startswith("tracker")]
    reason = "ConnectionError: the server is gone"
    assert said == [f"tracker tensorboard: switched off, metrics.jsonl goes on ({reason})"]
    measured = {"time", "seconds", "train/images_per_second", "train/data_wait"}
    rows = [
        [
            {key: value for key, value in row.items() if key not in measured}
            for row in read_metrics(folder / "metrics.jsonl")
        ]
        for folder in (finished[0], tmp_path / "workdir")
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 35


def test_a_tracker_that_cannot_be_opened_or_hangs_holds_nothing_up(tmp_path):
    said, release = [], threading.Event()

    class Hanging(Failing):
        def figures(self, step, figures):
            release.wait()

    def refuse(say):
        say("listen")
        raise ValueError("no key")

    began = time.monotonic()
    trackers = [
        Aside("refused", refuse, said.append),
        Aside("hanging", lambda say: Hanging(), said.append, patience=0.2),
        Aside("full", lambda say: Hanging(), said.append, waiting=2, patience=0.2),
    ]
    writer = MetricWriter(tmp_path, resumed_at=0, trackers=trackers)
    for step in range(1, 7):
        writer.write(step, {"train/loss": 1.0})
    writer.close()
    assert time.monotonic() - began < 5
    release.set()
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 6
    assert sorted(said) == [
        "tracker full is 2 calls behind and is switched off; metrics.jsonl goes on",
        "tracker hanging has not finished within 0.2 s and is switched off; metrics.jsonl goes on",
        "tracker refused: listen",
        "tracker refused: switched off, metrics.jsonl goes on (ValueError: no key)",
    ]


SHORT = """
import sys
from pathlib import Path
from p10k_jax.reporting.trackers import open_trackers
workdir = Path(sys.argv[1])
for resumed_at in (0, 1):
    (tracker,) = open_trackers(sys.argv[2:3], workdir, project="shelf", resumed_at=resumed_at, say=print)
    tracker.settings({"long.key": "x" * 7000, "changes": resumed_at, "a.b": None}, {"parameters": 5})
    tracker.figures(1, {"train/loss": 1.0 + resumed_at})
    tracker.figures(2 + resumed_at, {"train/loss": 2.0 + resumed_at, "late": float("nan")})
    tracker.close()
"""


READ = """
import json
from tests.tracker_files import read_mlflow
print("told:" + json.dumps(read_mlflow(workdir)))
"""


def test_wandb_without_a_key_says_so_and_keeps_the_run_offline(tmp_path):
    output = child("-c", SHORT, str(tmp_path / "shelf"), "wandb", home=tmp_path / "home")
    lines = [line for line in output.splitlines() if line.startswith("tracker wandb")]
    assert len(lines) == 2
    assert all("no API key: set WANDB_API_KEY, or run `wandb login`; offline; `wandb sync " in line for line in lines)
    assert len(list((tmp_path / "shelf" / "wandb").glob("offline-run-*/*.wandb"))) == 2


def test_mlflow_cuts_long_values_and_keeps_what_it_has(tmp_path):
    output = child("-c", SHORT + READ, str(tmp_path / "shelf"), "mlflow", home=tmp_path / "home")
    (run,) = json.loads(output.rpartition("told:")[2])
    assert run["params"] == {"long.key": "x" * 6000, "changes": "0", "a.b": "null", "run.parameters": "5"}
    assert run["metrics"]["train/loss"] == [[1, 1.0], [2, 2.0], [3, 3.0]]
    assert [step for step, _ in run["metrics"]["late"]] == [2, 3]


def test_mlflow_without_its_server_is_said_once(tmp_path):
    settings = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    output = child("-c", SHORT, str(tmp_path), "mlflow", home=tmp_path, **settings)
    lines = [line for line in output.splitlines() if line.startswith("tracker mlflow")]
    assert len(lines) == 2  # of two processes' worth
    assert all("switched off, metrics.jsonl goes on (" in line and "127.0.0.1" in line for line in lines)
    assert not (tmp_path / "mlflow").exists()
