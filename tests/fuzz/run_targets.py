"""Targets of what runs leave and others hand on: settings, workdirs, decoded splits, tables of predictions."""

import contextlib
import json
from pathlib import Path

import numpy as np

from p10k_jax.classifier import view_settings
from p10k_jax.compare import as_text, comparisons, read_runs
from p10k_jax.config import config_of_arguments, parse_arg, read_workdir, resume_config
from p10k_jax.data.classes import read_classes
from p10k_jax.data.decoded import DamagedError, open_decoded
from p10k_jax.evaluation.figures import figures
from p10k_jax.evaluation.files import read_embeddings, read_said
from p10k_jax.evaluation.predictions import read_predictions
from p10k_jax.facts import read_facts
from p10k_jax.finished import open_run
from p10k_jax.reporting.cards import read_figures
from p10k_jax.reporting.writers import MetricWriter, read_metrics
from tests.fuzz import folders
from tests.fuzz.check import Target

CONFIGS = ("vit", "resnet", "finetune", "demo")


def _settings(data: bytes, folder: Path) -> None:
    """A command line, a word a line: `FILE:ARG` of `--config`, then settings. The file is ours: it is code."""
    text = data.decode("utf-8", "surrogateescape")
    first, *rest = text.split("\n")
    name, colon, argument = first.partition(":")
    with contextlib.suppress(ValueError):
        parse_arg(argument, variant="S/16", depth=3, rate=0.1, runlocal=False)
    file = f"configs/{name if name in CONFIGS else 'vit'}.py"
    settings = [line for line in rest if line.startswith("--config.")]  # another `--config=` would run another file
    config = config_of_arguments([f"--config={file}{colon}{argument}", *settings])
    json.dumps(config.to_dict())


def _workdir(data: bytes, folder: Path) -> None:
    """A workdir: all that is read of it but the checkpoints' arrays."""
    folder = folder / "run"  # beside a workdir lies which bucket it is of
    folder.mkdir()
    folders.write(folders.unpack(data), folder)
    (folder / "checkpoints" / "30").mkdir(parents=True, exist_ok=True)
    asked = [
        lambda: read_facts(folder),
        lambda: read_classes(folder),
        lambda: read_figures(folder),
        lambda: resume_config(config_of_arguments(["--config=configs/demo.py"]), folder),
    ]
    for ask in asked:
        with contextlib.suppress(ValueError):
            ask()
    rows = read_metrics(folder / "metrics.jsonl")
    MetricWriter(folder, resumed_at=10).close()
    assert len(read_metrics(folder / "metrics.jsonl")) == sum(row["step"] <= 10 for row in rows)
    read_workdir(folder)
    views = view_settings(open_run(folder, "last").config)
    assert len(views.mean) == len(views.std) == 3


def _decoded(data: bytes, folder: Path) -> None:
    """A folder with a decoded split."""
    folders.write(folders.unpack(data), folder)
    decoded = open_decoded(folder)
    assert decoded.images.dtype == np.uint8
    for name in ("aspect", "label", "group", "rung", "name", "usage"):
        assert len(getattr(decoded, name)) == len(decoded)
    assert decoded.label.dtype == np.int32
    int(decoded.images.sum(dtype=np.int64))


def _predictions(data: bytes, folder: Path) -> None:
    """Two evaluated runs, compared, and a table with embeddings."""
    files = folders.unpack(data)
    for run in ("a", "b"):
        (folder / run / "eval" / "test").mkdir(parents=True)
        (folder / run / "eval" / "test" / "predictions.parquet").write_bytes(files.get(run, files.get("a", b"")))
    (folder / "embeddings.parquet").write_bytes(files.get("embeddings", b""))
    if "embeddings" in files:
        names, vectors = read_embeddings(folder / "embeddings.parquet")
        assert len(names) == len(vectors)
    path = folder / "a" / "eval" / "test" / "predictions.parquet"
    read_said(path)
    table = read_predictions(path)
    figures(table, resamples=2)
    assert as_text(comparisons(read_runs([folder / "a", folder / "b"], "test")))


TARGETS = {
    "settings": Target(_settings, (ValueError,), most_bytes=1 << 10),
    "workdir": Target(_workdir, (ValueError,), most_bytes=1 << 14),
    "decoded": Target(_decoded, (DamagedError,)),
    "predictions": Target(_predictions, (ValueError,)),
}
