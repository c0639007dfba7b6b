"""What the programs build alike out of a resolved config: data, model, views, evaluation."""

import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pyarrow as pa
from jax.sharding import Mesh
from ml_collections import ConfigDict

from p10k_jax.data.augment import Normalisation, Views, evaluation_views, training_views
from p10k_jax.data.batches import Loading, evaluation_steps, global_batches
from p10k_jax.data.decode import DecodeReport
from p10k_jax.data.splits import Split
from p10k_jax.evaluation.metrics import metrics
from p10k_jax.evaluation.predictions import make_predict_step, predict_split, write_predictions
from p10k_jax.models import Model, create
from p10k_jax.models.functional import Tree
from p10k_jax.reporting.files import write_json
from p10k_jax.training.mesh import batch_sharding, replicated

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def canvas_size(config: ConfigDict) -> int:
    """Side of the canvas in pixels: as configured, or 8/7 of the view's (256 for 224)."""
    image_size = config.data.image_size
    size = config.data.canvas_size or -(-image_size * 8 // 7)
    if image_size < 1 or size < image_size:
        raise ValueError(f"data.canvas_size={size} must be at least data.image_size={image_size}, and that at least 1.")
    return size


def loading(config: ConfigDict) -> Loading:
    """How this host decodes."""
    return Loading(threads=config.data.threads or os.cpu_count() or 1, workers=config.data.workers)


def compute_dtype(name: str) -> jnp.dtype:
    """`auto` is bfloat16 where the hardware multiplies it fast, float32 on CPU."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in _DTYPES:
        raise ValueError(f"model.dtype={name!r} is unknown; known: auto, {', '.join(_DTYPES)}.")
    return _DTYPES[name]


def make_model(config: ConfigDict, split: Split) -> Model:
    """The model that the config names, with a head for the split's classes or for more."""
    num_classes = config.model.num_classes or split.num_classes
    if num_classes < split.num_classes:
        raise ValueError(f"model.num_classes={num_classes}, but {split.dataset} has {split.num_classes} classes.")
    return create(
        config.model.name,
        num_classes=num_classes,
        image_size=config.data.image_size,
        dtype=compute_dtype(config.model.dtype),
        **{key: value for key, value in config.model.options.items() if value is not None},
    )


def make_training_views(config: ConfigDict) -> Views:
    """The augmentation that the config describes."""
    return training_views(
        image_size=config.data.image_size,
        scale=tuple(config.augment.crop_scale),
        ratio=tuple(config.augment.crop_ratio),
        flip=config.augment.flip,
        statistics=Normalisation(),
    )


class Evaluator(NamedTuple):
    """Evaluates weights on one split; the compiled step is kept between calls."""

    split: Split
    predict: object
    mesh: Mesh
    batch_size: int
    canvas_size: int
    loading: Loading

    def __call__(self, params: Tree, batch_stats: Tree) -> tuple[pa.Table, DecodeReport]:
        """The table of predictions, and how the pictures were read."""
        report = DecodeReport()
        batches = global_batches(
            self.split,
            sharding=batch_sharding(self.mesh),
            batch_size=self.batch_size,
            canvas_size=self.canvas_size,
            steps=range(evaluation_steps(len(self.split), self.batch_size)),
            loading=self.loading,
            seed=None,
            report=report,
        )
        return predict_split(self.predict, params, batch_stats, batches, num_examples=len(self.split)), report


def make_evaluator(config: ConfigDict, model: Model, split: Split, mesh: Mesh) -> Evaluator:
    """An evaluator as the config describes."""
    crop = config.eval.crop
    if not 0 <= crop <= 1:
        raise ValueError(f"eval.crop={crop} is outside 0..1.")
    views = evaluation_views(image_size=config.data.image_size, crop=crop, statistics=Normalisation())
    return Evaluator(
        split=split,
        predict=jax.jit(make_predict_step(model, views), out_shardings=replicated(mesh)),
        mesh=mesh,
        batch_size=config.eval.batch_size or config.batch_size,
        canvas_size=canvas_size(config),
        loading=loading(config),
    )


def write_evaluation(workdir: Path, split: str, table: pa.Table, *, step: int) -> dict:
    """Writes `eval/<split>/{predictions.parquet,metrics.json}` (process 0) and returns the figures."""
    figures = metrics(table) | {"step": step}
    if jax.process_index() == 0:
        folder = workdir / "eval" / split
        write_predictions(table, folder / "predictions.parquet")
        write_json(folder / "metrics.json", figures)
    return figures
