"""A trained classifier wherever it was kept, a workdir or an export, ready to be shown pictures."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jax import export as jax_export
from jaxtyping import Array, Float
from ml_collections import ConfigDict

import tfds_builder
from p10k_jax import setup
from p10k_jax.data.augment import Normalisation, normalise
from p10k_jax.data.classes import Classes, read_classes
from p10k_jax.data.view_settings import ViewSettings, read_preprocessing_file
from p10k_jax.files import read_json
from p10k_jax.finished import open_run
from p10k_jax.models import Model, create
from p10k_jax.models.functional import Tree
from p10k_jax.weights.files import read_weights
from p10k_jax.weights.fit import fit_tensors
from p10k_jax.weights.timm_export import options_of_timm

PROGRAM, PROGRAM_WEIGHTS = "model.jaxexport", "weights.safetensors"
TIMM_CONFIG, TIMM_WEIGHTS = "config.json", "model.safetensors"
Apply = Callable[[Tree, Float[Array, "b n n 3"]], tuple[Float[Array, "b c"], Float[Array, "b d"]]]


class Classifier(NamedTuple):
    """What it takes to predict.

    Attributes:
        apply: `(weights, images) -> (logits, embedding)`, images 0..255 and not normalised; pure, for `jax.jit`.
        weights: A tree of NumPy arrays.
        views: How a picture becomes what it sees.
        classes: What the logits mean; of more logits than classes the first count.
        source: In words: which folder, which step.
        notes: What a person should know before trusting the numbers.
        fixed_size: Whether images of no other size than `views.image_size` can be given.
    """

    apply: Apply
    weights: Tree
    views: ViewSettings
    classes: Classes
    source: str
    notes: tuple[str, ...] = ()
    fixed_size: bool = False


def view_settings(config: ConfigDict) -> ViewSettings:
    """How the pictures of a run's evaluation come about, from its resolved config.

    Raises:
        ValueError: settings that are missing or no numbers.
    """
    try:
        return _views(config)
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"the run's config does not say how its pictures are seen ({error!s:.500}).") from error


def _views(config: ConfigDict) -> ViewSettings:
    data, builder = config.data, tfds_builder.BUILDERS.get(config.data.name)
    return ViewSettings(
        image_size=config.eval.image_size,
        canvas_size=data.canvas_size,
        crop=float(config.eval.crop),
        pad=bool(data.pad),
        mean=tuple(map(float, data.mean)),
        std=tuple(map(float, data.std)),
        shorter_side=builder.config_from_name(data.config).preparation.shorter_side if builder else 0,
    )


def classifier_of_run(workdir: Path, checkpoint: str = "") -> Classifier:
    """The model of a run with the weights that evaluation uses.

    Args:
        workdir: Of `p10k_jax.train`.
        checkpoint: `best`, `last` or a step; empty: the best, or the last where none was evaluated.

    Raises:
        ValueError: no run, no such checkpoint, or no `classes.csv`.
    """
    run = open_run(workdir, checkpoint)
    classes, views = read_classes(workdir), view_settings(run.config)
    apply = _apply(run.model, setup.normalisation(run.config))
    return Classifier(apply, run.weights(), views, classes, f"{run.place}, step {run.step:,}")


def classifier_of_export(folder: Path) -> Classifier:
    """The model in a folder of `p10k_jax.export`, of either format.

    `jax` runs as it is, without this package's models; `timm` goes through them.

    Raises:
        ValueError: no such folder, or files in it that are missing or damaged.
    """
    if not folder.is_dir():
        raise ValueError(f"--export={folder} is no folder; give one that p10k_jax.export wrote.")
    if (folder / PROGRAM).is_file():
        return _of_jax(folder)
    if (folder / TIMM_CONFIG).is_file() and (folder / TIMM_WEIGHTS).is_file():
        return _of_timm(folder)
    raise ValueError(
        f"--export={folder} holds neither {PROGRAM} nor {TIMM_CONFIG} and {TIMM_WEIGHTS}; give a folder that "
        "p10k_jax.export wrote, or a workdir as --workdir."
    )


def _apply(model: Model, statistics: Normalisation) -> Apply:
    def apply(weights: Tree, images: Array) -> tuple[Array, Array]:
        inputs = normalise(images, statistics)
        outputs, _ = model.apply(weights["params"], weights.get("batch_stats", {}), inputs)
        return outputs.logits, outputs.embedding

    return apply


def _of_jax(folder: Path) -> Classifier:
    preprocessing, classes = read_preprocessing_file(folder), read_classes(folder)
    try:
        exported = jax_export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
        weights = safetensors.numpy.load_file(folder / PROGRAM_WEIGHTS)
        reaches_out = _REACHES_OUT.search(exported.mlir_module())
    except Exception as error:  # flatbuffers and MLIR raise what they like on damaged bytes
        raise ValueError(f"{folder}: {PROGRAM} or {PROGRAM_WEIGHTS} is damaged ({error}); export anew.") from error
    if reaches_out:
        raise ValueError(
            f"{folder / PROGRAM} holds {reaches_out[0]}, which reaches beyond the computation and is none of what "
            "p10k_jax.export writes; it is not run."
        )
    platform = jax.default_backend()
    if (platform := {"gpu": "cuda"}.get(platform, platform)) not in exported.platforms:
        raise ValueError(f"{folder / PROGRAM} is for {', '.join(exported.platforms)}, and this machine has {platform}.")

    def apply(weights: Tree, images: Array) -> tuple[Array, Array]:
        outputs = exported.call(weights, images)
        return outputs["logits"], outputs["embedding"]

    size = preprocessing.views.image_size
    try:
        shapes = jax.eval_shape(apply, weights, jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))
    except Exception as error:  # what does not fit is found out in many places
        raise ValueError(
            f"{folder}: {PROGRAM} does not fit what lies beside it ({error!s:.500}); export anew."
        ) from error
    if any(len(one.shape) != 2 or one.shape[0] != 2 for one in shapes) or shapes[0].shape[1] < len(classes):
        raise ValueError(
            f"{folder}: {PROGRAM} gives {shapes[0].shape} and {shapes[1].shape} of 2 pictures, with {len(classes)} "
            "classes; export anew."
        )
    source = f"{folder}, a program of jax"
    return Classifier(apply, weights, preprocessing.views, classes, source, preprocessing.notes, fixed_size=True)


# Calls into the process by name or address, and transfers; a program of ours asserts shapes and no more.
_REACHES_OUT = re.compile(r"custom_call(?! @shape_assertion\()|\b(stable|v|m)hlo\.(infeed|outfeed|send|recv)\b")


def _of_timm(folder: Path) -> Classifier:
    preprocessing, classes = read_preprocessing_file(folder), read_classes(folder)
    architecture, num_classes, arguments = _timm_config(folder / TIMM_CONFIG)
    options = {"image_size": preprocessing.views.image_size} | options_of_timm(arguments, str(folder / TIMM_CONFIG))
    tensors = read_weights(str(folder)).tensors
    where = folder / TIMM_CONFIG
    _check_sizes(options, preprocessing.views, num_classes, len(tensors), where)
    try:
        model = create(architecture, num_classes=num_classes, dtype=jnp.dtype(preprocessing.dtype), **options)
        params, batch_stats = jax.eval_shape(model.init, jax.random.key(0))
    except Exception as error:  # an argument may be of any kind, and each is found out elsewhere
        raise ValueError(
            f"{where} describes no model ({type(error).__name__}: {error!s:.500}); export anew."
        ) from error
    fit = fit_tensors(tensors, {"params": params, "batch_stats": batch_stats}, prefix_tokens=model.prefix_tokens)
    if fit.new or fit.left_over:
        odd = (*fit.new, *fit.left_over)[0]
        raise ValueError(f"{folder / TIMM_WEIGHTS} does not fit {folder / TIMM_CONFIG}: {odd}; export anew.")
    apply = _apply(model, preprocessing.views.statistics)
    weights = jax.tree.map(np.asarray, fit.weights)
    return Classifier(apply, weights, preprocessing.views, classes, f"{folder}, in timm's format", preprocessing.notes)


# Larger than of any model that is known here; far less than what fills a machine.
_MOST = {"width": 1 << 14, "heads": 1 << 10, "patch_size": 1 << 9, "registers": 1 << 10, "image_size": 1 << 13}


def _check_sizes(options: dict[str, Any], views: ViewSettings, num_classes: int, tensors: int, where: Path) -> None:
    """Raises ValueError for sizes that no model has: a shape is traced, and tables of positions are made, before any
    tensor of the file is held against them."""
    for key, most in (_MOST | {"depth": tensors}).items():
        value, least = options.get(key, 1), 0 if key == "registers" else 1
        if type(value) is not int or not least <= value <= most:
            raise ValueError(
                f"{where}: {key}={repr(value)[:99]} is not an integer from {least} to {most:,}; export anew."
            )
    if options["image_size"] != views.image_size or not 0 < num_classes < 1 << 24:
        raise ValueError(
            f"{where}: {num_classes} classes, {options['image_size']} pixels, where the pictures have "
            f"{views.image_size}; export anew."
        )


def _timm_config(path: Path) -> tuple[str, int, dict[str, Any]]:
    """Architecture, number of classes and arguments."""
    try:
        config = read_json(path, "export anew")
        architecture, num_classes, arguments = (config[key] for key in ("architecture", "num_classes", "model_args"))
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} is not the config.json of p10k_jax.export ({error}); export anew.") from error
    if not (isinstance(architecture, str) and type(num_classes) is int and isinstance(arguments, dict)):
        raise ValueError(f"{path} is not the config.json of p10k_jax.export; export anew.")
    return architecture, num_classes, arguments
