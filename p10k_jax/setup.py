"""What the programs build alike out of a config: data, model, views, evaluation."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pyarrow as pa
import tensorflow_datasets as tfds
from jax.sharding import Mesh
from ml_collections import ConfigDict

from p10k_jax import buckets, pixels
from p10k_jax.bucket_data import fetched
from p10k_jax.data.augment import Normalisation, evaluation_views, mirrored
from p10k_jax.data.batches import Loaded, Loading, check_divides, evaluation_steps, global_batches
from p10k_jax.data.decode import DecodeReport
from p10k_jax.data.decoded import Decoded
from p10k_jax.data.order import EvaluationOrder, Order
from p10k_jax.data.splits import Split, data_fingerprint
from p10k_jax.evaluation.neighbours import Gallery
from p10k_jax.evaluation.predictions import Predictions, PredictStep, make_predict_step, predict_split
from p10k_jax.models import HeadSettings, Model, create
from p10k_jax.models.attention import ATTENTIONS
from p10k_jax.models.functional import Tree
from p10k_jax.models.padding import padded_classes
from p10k_jax.models.remat import REMATS
from p10k_jax.training.class_sharding import class_sharded
from p10k_jax.training.mesh import batch_sharding, replicated, state_shardings
from p10k_jax.weights.preprocessing import Preprocessing
from tfds_builder.disk import free_bytes
from tfds_builder.prepare import prepare

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def local_folder(path: str, *, setting: str) -> Path:
    """A path as given by a user. Raises ValueError for an address, also a bucket's."""
    if "://" in path:
        raise ValueError(f"{setting}={path} is an address, and this has to be a folder of this machine.")
    return Path(path).expanduser()


def open_data(config: ConfigDict, *, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """The dataset that the config names, built first if need be.

    Args:
        config: Where `data.fingerprint` is set, the data must be that of the run that set it.
        data_dir: Where it lies if it has moved.

    Raises:
        ValueError: it cannot be prepared, or is not the data of the run.
    """
    builder = prepare_data(config, data_dir=data_dir, progress=jax.process_index() == 0)
    fingerprint = data_fingerprint(builder)
    if config.data.fingerprint not in (None, fingerprint):
        raise ValueError(
            f"{builder.data_dir} holds other data (fingerprint {fingerprint}) than the run was trained on "
            f"({config.data.fingerprint}). Give the data_dir of that data."
        )
    return builder


def prepare_data(config: ConfigDict, *, data_dir: str | None = None, progress: bool = True) -> tfds.core.DatasetBuilder:
    """As `open_data`, for a process that leaves the devices alone; any fingerprint will do."""
    data = config.data
    data_dir = data_dir or data.data_dir
    if data_dir and buckets.is_bucket(data_dir):
        data_dir = fetched(data_dir, data.name, config=data.config, progress=progress)
    return prepare(
        data.name,
        config=data.config,
        data_dir=data_dir and buckets.local_folder(str(data_dir), setting="data.data_dir"),
        manual_dir=data.manual_dir and local_folder(data.manual_dir, setting="data.manual_dir"),
        leave_out_unreadable=data.leave_out_unreadable,
        progress=progress,
        # The fingerprint of a run says more, and costs nothing.
        check_source=not data.fingerprint,
    )


def resolve(
    config: ConfigDict,
    builder: tfds.core.DatasetBuilder,
    split: Split,
    preprocessing: Preprocessing,
    *,
    num_groups: int,
    class_parts: int = 1,
) -> None:
    """Fills in what the config leaves to the data, the weights and the hardware, so that `config.json` says what was
    done. `class_parts` is how many devices a new run splits the classes over.

    Raises:
        ValueError: a size that is too small, or fewer classes than the data has.
    """
    with config.unlocked():
        config.data.fingerprint = data_fingerprint(builder)
        config.data.config = builder.builder_config.name if builder.builder_config else ""
    classes = {"num_classes": split.num_classes, "num_groups": num_groups, "class_parts": class_parts}
    resolve_sizes(config, preprocessing, **classes)
    check_classes(config, split)


def resolve_sizes(
    config: ConfigDict, preprocessing: Preprocessing, *, num_classes: int, num_groups: int, class_parts: int = 1
) -> None:
    """The part of `resolve` that needs no data, only how many classes and groups there are.

    Raises:
        ValueError: a size that is too small.
    """
    with config.unlocked():
        config.data.image_size = config.data.image_size or preprocessing.image_size
        config.data.mean = tuple(config.data.mean or preprocessing.mean)
        config.data.std = tuple(config.data.std or preprocessing.std)
        config.model.num_classes = config.model.num_classes or num_classes
        config.model.num_groups = num_groups
        config.model.dtype = compute_dtype(config.model.dtype)
        config.eval.image_size = config.eval.image_size or config.data.image_size
        config.eval.batch_size = config.eval.batch_size or config.batch_size
        config.data.canvas_size = canvas_size(config)
        config.model.padded_classes = config.model.padded_classes or padded_classes(
            config.model.num_classes, class_parts
        )
    if config.model.padded_classes < config.model.num_classes:
        raise ValueError(
            f"model.padded_classes={config.model.padded_classes} is less than "
            f"model.num_classes={config.model.num_classes}; leave it empty, and it follows from mesh.model."
        )


def check_classes(config: ConfigDict, split: Split) -> None:
    """Raises ValueError where the data has more classes than the model."""
    if config.model.num_classes < split.num_classes:
        raise ValueError(
            f"model.num_classes={config.model.num_classes}, but {split.dataset} has {split.num_classes} classes."
        )


def canvas_size(config: ConfigDict) -> int:
    """Side of the canvas in pixels: as configured, or 8/7 of the largest view's (256 for 224)."""
    views = {
        setting: size
        for setting, size in (
            ("data.image_size", config.data.image_size),
            ("data.low_image_size", config.data.low_image_size),
            ("eval.image_size", config.eval.image_size),
        )
        if size is not None
    }
    size = config.data.canvas_size or -(-max(views.values()) * 8 // 7)
    for setting, view in views.items():
        if not 1 <= view <= size:
            raise ValueError(f"data.canvas_size={size} must be at least {setting}={view}, and that at least 1.")
    return size


def compute_dtype(name: str) -> str:
    """`auto` is bfloat16 where the hardware multiplies it fast, float32 on CPU."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in _DTYPES:
        raise ValueError(f"model.dtype={name!r} is unknown; known: auto, {', '.join(_DTYPES)}.")
    return name


def make_model(
    config: ConfigDict, *, image_size: int | None = None, training: bool = False, padded: bool = True
) -> Model:
    """The model of a resolved config, for its image size or another, with the padding of its classes or without.

    Only in `training` is it computed as `model.attention` and `model.remat` say: without a gradient nothing is kept,
    and a run is evaluated on other hardware than it was trained on.
    """
    padding = config.model.get("padded_classes") if padded else None
    computing = {}
    if training:
        how = {"attention": (config.model.attention, ATTENTIONS[0]), "remat": (config.model.remat, REMATS[0])}
        computing = {key: value for key, (value, default) in how.items() if value != default}
    return create(
        config.model.name,
        num_classes=config.model.num_classes,
        image_size=image_size or config.data.image_size,
        head=HeadSettings(**config.head, num_groups=config.model.num_groups, padded_classes=padding or 0),
        dtype=_DTYPES[config.model.dtype],
        **{key: value for key, value in config.model.options.items() if value is not None},
        **computing,
    )


def image_settings(config: ConfigDict) -> str:
    """What the model sees, in words."""
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (config.data.mean, config.data.std))
    return f"{config.data.image_size} pixels out of {config.data.canvas_size}, mean ({mean}), std ({std})"


def normalisation(config: ConfigDict) -> Normalisation:
    """The channel statistics that the config names. Raises ValueError where they are not three each."""
    mean, std = tuple(config.data.mean), tuple(config.data.std)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"data.mean={mean}, data.std={std}: three numbers each are needed, and std above 0.")
    return Normalisation(mean, std)


def assert_space(workdir: Path, state: Tree) -> None:
    """Raises ValueError where the disk cannot be written, or cannot hold four checkpoints: the last two, the best, and
    one being written. Where they go to a bucket, none is needed."""
    if buckets.url_of(workdir):
        return
    there = next(folder for folder in (workdir.absolute(), *workdir.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"workdir={workdir}: {there} cannot be written. Change its permissions, or give another.")
    needed = 4 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    free = free_bytes(workdir)
    if free < needed:
        raise ValueError(
            f"no space left: checkpoints take up to {needed / 1e9:.2f} GB, but {workdir} has {free / 1e9:.2f} GB "
            "free. Free some, or give a workdir elsewhere."
        )


class Evaluator(NamedTuple):
    """Evaluates weights on one split; the compiled step is kept between calls."""

    split: Split
    predict: PredictStep
    mesh: Mesh
    batch_size: int
    canvas_size: int
    loading: Loading
    decoded: Decoded | None = None

    def __call__(
        self, params: Tree, batch_stats: Tree, *, progress: Callable[[int, int], None] | None = None
    ) -> tuple[pa.Table, DecodeReport]:
        """The table of predictions, and how the pictures were read; `progress` is told batches done and in all."""
        predictions, report = self.run(params, batch_stats, progress=progress)
        return predictions.table, report

    def run(
        self,
        params: Tree,
        batch_stats: Tree,
        *,
        gallery: Gallery | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Predictions, DecodeReport]:
        """All that the step gives of each image; `gallery`, the same on every host, where the step searches one."""
        step = self.predict
        if gallery is not None:
            whole = replicated(self.mesh)
            gallery = jax.tree.map(
                lambda leaf: jax.make_array_from_callback(leaf.shape, whole, leaf.__getitem__), gallery
            )
            step = functools.partial(step, gallery=gallery)
        report = DecodeReport()
        steps = evaluation_steps(len(self.split), self.batch_size)
        batches = self.batches(range(steps), EvaluationOrder(len(self.split)), report)
        if progress is not None:
            batches = _told(batches, steps, progress)
        return predict_split(step, params, batch_stats, batches, num_examples=len(self.split)), report

    def batches(self, steps: range, order: Order, report: DecodeReport) -> Iterator[Loaded]:
        """The batches `steps` of the split in that order; how they were read is added to `report`."""
        return global_batches(
            self.split,
            sharding=batch_sharding(self.mesh),
            batch_size=self.batch_size,
            canvas_size=self.canvas_size,
            steps=steps,
            loading=self.loading,
            order=order,
            report=report,
            decoded=self.decoded,
        )


def _told(batches, steps: int, progress: Callable[[int, int], None]):
    for done, batch in enumerate(batches):
        progress(done, steps)
        yield batch


class Seen(NamedTuple):
    """What a model sees of a picture: each combination of a size in pixels and a crop (0: the whole picture) is a view,
    and with `flip` its mirror image another."""

    image_sizes: tuple[int, ...]
    crops: tuple[float, ...]
    flip: bool = False

    def as_settings(self) -> dict[str, Any]:
        """`image_size` and `crop`, a number where there is one and a list where there are several, `flip` where on."""
        sizes, crops = (list(values) if len(values) > 1 else values[0] for values in (self.image_sizes, self.crops))
        return {"image_size": sizes, "crop": crops} | ({"flip": True} if self.flip else {})


def make_evaluator(
    config: ConfigDict,
    model: Model,
    split: Split,
    mesh: Mesh,
    *,
    seen: Seen | None = None,
    embed: bool = False,
    neighbours: int = 0,
    builder: tfds.core.DatasetBuilder | None = None,
) -> Evaluator:
    """An evaluator as the config describes.

    Args:
        config: Resolved.
        model, split, mesh: What is evaluated, on what and where.
        seen: Views; default: the one of the config.
        embed, neighbours: What the step gives beyond predictions; see `make_predict_step`.
        builder: Of the data: with it, nothing is decoded of a split whose canvases lie there already.

    Raises:
        ValueError: a batch that the mesh does not divide, or a view that the model cannot take.
    """
    batch_size = config.eval.batch_size or config.batch_size
    check_divides(batch_size, batch_sharding(mesh))
    check_classes(config, split)
    return Evaluator(
        split=split,
        predict=jitted_predict_step(
            config, model, mesh, num_classes=split.num_classes, seen=seen, embed=embed, neighbours=neighbours
        ),
        mesh=mesh,
        batch_size=batch_size,
        canvas_size=config.data.canvas_size,
        loading=pixels.loading(config),
        decoded=pixels.decoded_before(config, builder, split) if builder else None,
    )


def jitted_predict_step(
    config: ConfigDict,
    model: Model,
    mesh: Mesh,
    *,
    num_classes: int,
    seen: Seen | None = None,
    embed: bool = False,
    neighbours: int = 0,
) -> PredictStep:
    """The step of `make_evaluator`, which needs no data; `num_classes` are those of the data.

    Raises:
        ValueError: a view that the model cannot take.
    """
    seen = seen or Seen((config.eval.image_size,), (config.eval.crop,))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    for size in seen.image_sizes:  # raises for a size that is none
        jax.eval_shape(model.apply, *shapes, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    common = {"pad": config.data.pad, "statistics": normalisation(config)}
    views = [evaluation_views(image_size=size, crop=crop, **common) for size in seen.image_sizes for crop in seen.crops]
    if seen.flip:
        views = [view for plain in views for view in (plain, mirrored(plain))]
    shardings = state_shardings(mesh, {"params": shapes[0]}, config.sharding_rules)["params"]
    predict = make_predict_step(
        class_sharded(model, mesh, shardings),
        views,
        num_classes=num_classes,
        embed=embed,
        neighbours=neighbours,
        mesh=mesh,
    )
    return jax.jit(predict, out_shardings=replicated(mesh))
