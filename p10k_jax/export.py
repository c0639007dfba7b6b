"""Carries a trained model elsewhere: to timm, or as a program that runs without this package.

    python -m p10k_jax.export --workdir=W --format=timm --output=OUT
    python -m p10k_jax.export --workdir=W --format=jax --output=OUT

`timm` writes `model.safetensors` and `config.json`, the folder that timm and the Hugging Face hub call a model. `jax`
writes StableHLO (`model.jaxexport`; any batch size; CPU, GPU and TPU) and the weights that it takes
(`weights.safetensors`). Both write `classes.csv`, `preprocessing.json` and a model card (`README.md`), and
`python -m p10k_jax.predict --export=OUT` takes both.
"""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import flags
from jax import export as jax_export
from ml_collections import ConfigDict

from configs import common
from p10k_jax import buckets, setup
from p10k_jax.classifier import PROGRAM, PROGRAM_WEIGHTS, TIMM_CONFIG, TIMM_WEIGHTS, view_settings
from p10k_jax.config import as_plain, changes, check_empty, clear_errors, run_program
from p10k_jax.data.augment import normalise
from p10k_jax.data.classes import read_classes, write_classes
from p10k_jax.data.view_settings import Preprocessing, write_preprocessing
from p10k_jax.files import write_bytes, write_json, write_text
from p10k_jax.finished import FinishedRun, open_run
from p10k_jax.models import HeadSettings
from p10k_jax.models.functional import Tree
from p10k_jax.models.transformer import resample_positions
from p10k_jax.reporting.cards import CardFacts, model_card
from p10k_jax.reporting.progress import Console
from p10k_jax.weights.fit import nested
from p10k_jax.weights.state_dict import tree_paths
from p10k_jax.weights.timm_export import timm_model, timm_tensors

PLATFORMS = ("cpu", "cuda", "tpu")


def head_of(run: FinishedRun) -> HeadSettings:
    """What stands on the run's trunk."""
    return HeadSettings(**run.config.head, num_groups=run.config.model.num_groups)


def export_timm(run: FinishedRun, folder: Path) -> str:
    """Writes `model.safetensors`, `config.json` and what `write_beside` does; returns what to say of it.

    Raises:
        ValueError: a model that timm has no counterpart of, or a workdir without `classes.csv`.
    """
    config, names = run.config, read_classes(run.workdir).names
    options = {key: value for key, value in config.model.options.items() if value is not None}
    architecture, arguments = timm_model(config.model.name, options, config.eval.image_size)
    weights = run.weights()
    if "img_size" in arguments:
        weights["params"] = _at_size(run, weights["params"])
    tensors, note = timm_tensors(weights["params"], weights["batch_stats"], head_of(run))
    write_bytes(folder / TIMM_WEIGHTS, safetensors.numpy.save(tensors, {"format": "pt"}))
    (classifier,) = {name.removesuffix(".weight") for name in tensors} & {"head", "fc", "head.fc"}
    # timm moves the names into `pretrained_cfg`.
    told = timm_config(config, architecture, arguments, classifier) | {"label_names": list(names)}
    write_json(folder / TIMM_CONFIG, told)
    notes = [note, _NECK_NOTE if "neck" in weights["params"] else ""]
    write_beside(run, folder, "timm", _TIMM_USAGE, notes)
    listed = "".join(f", {key}={value!r}" for key, value in arguments.items())
    return "\n".join(
        filter(
            None,
            (
                note,
                f'timm.create_model("local-dir:{folder}", pretrained=True)',
                f'timm.create_model("{architecture}", checkpoint_path="{folder / "model.safetensors"}", '
                f"num_classes={config.model.num_classes}{listed})",
            ),
        )
    )


_NECK_NOTE = (
    "The run's neck is folded into the classifier: the embedding is what stands before the neck, not what the run's "
    "classifier sees."
)
_TIMM_USAGE = """\
```python
import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
names = model.pretrained_cfg["label_names"]
```

timm's transform resamples a little otherwise than the run's evaluation did. This shows the model what evaluation showed
it, by `preprocessing.json`: `python -m p10k_jax.predict --export=FOLDER --images=PICTURES --output=OUT.csv`.
"""


def _at_size(run: FinishedRun, params: Tree) -> Tree:
    """The parameters with the table of positions for the size that the run is evaluated at, which timm asks for."""
    if "pos_embed" not in params or run.config.eval.image_size == run.config.data.image_size:
        return params
    larger = setup.make_model(run.config, image_size=run.config.eval.image_size, padded=False)
    wanted, _ = jax.eval_shape(larger.init, jax.random.key(0))
    side = math.isqrt(wanted["pos_embed"].shape[1] - run.model.prefix_tokens)
    positions = resample_positions(jnp.asarray(params["pos_embed"]), run.model.prefix_tokens, side, side)
    return params | {"pos_embed": np.asarray(positions)}


def timm_config(config: ConfigDict, architecture: str, arguments: dict[str, Any], classifier: str) -> dict[str, Any]:
    """timm's `config.json` of a resolved config of ours; `classifier` is where the tensors have it."""
    size = config.eval.image_size
    return {
        "architecture": architecture,
        "num_classes": config.model.num_classes,
        "model_args": arguments,
        "pretrained_cfg": {
            "tag": "p10k_jax",
            "num_classes": config.model.num_classes,
            "input_size": [3, size, size],
            "fixed_input_size": "img_size" in arguments,
            "interpolation": "bilinear",
            "crop_pct": config.eval.crop or 1.0,
            "crop_mode": "border" if config.data.pad else "center" if config.eval.crop else "squash",
            "mean": list(config.data.mean),
            "std": list(config.data.std),
            "classifier": classifier,
        },
    }


def export_jax(run: FinishedRun, folder: Path) -> str:
    """Writes `model.jaxexport`, `weights.safetensors` and what `write_beside` does; returns how to call them.

    Raises:
        ValueError: a workdir without `classes.csv`.
    """
    config = run.config
    weights = run.weights()
    statistics = setup.normalisation(config)
    size = config.eval.image_size

    def program(tensors: dict[str, jax.Array], images: jax.Array) -> dict[str, jax.Array]:
        tree = nested(tensors)
        inputs = normalise(images, statistics)
        outputs, _ = run.model.apply(tree["params"], tree.get("batch_stats", {}), inputs)
        return {"logits": outputs.logits, "embedding": outputs.embedding}

    tensors = {path: np.ascontiguousarray(value) for path, value in tree_paths(weights).items()}
    shapes = {path: jax.ShapeDtypeStruct(value.shape, value.dtype) for path, value in tensors.items()}
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    exported = jax_export.export(jax.jit(program), platforms=PLATFORMS)(shapes, images)
    write_bytes(folder / PROGRAM, bytes(exported.serialize()))
    write_bytes(folder / PROGRAM_WEIGHTS, safetensors.numpy.save(tensors))
    usage = _USAGE.format(size=size, classes=config.model.num_classes)
    write_beside(run, folder, "jax", usage + _PREPROCESSING, [])
    return usage


def write_beside(run: FinishedRun, folder: Path, library: str, usage: str, notes: Sequence[str]) -> None:
    """Writes what every export has: `classes.csv`, `preprocessing.json` and the model card `README.md`."""
    classes, notes = read_classes(run.workdir), tuple(filter(None, notes))
    write_classes(folder, classes)
    write_preprocessing(folder, Preprocessing(view_settings(run.config), run.config.model.dtype, notes))
    config = as_plain(run.config)
    facts = CardFacts(
        library=library,
        config=config,
        changes=[
            (key, repr(default), repr(here))
            for key, default, here in changes(
                as_plain(common.get_config()), {k: v for k, v in config.items() if k not in ("given", "soup")}
            )
        ],
        num_classes=len(classes),
        train_images=None if classes.train_images is None else int(classes.train_images.sum()),
        step=run.step,
        usage=usage,
        notes=notes,
    )
    write_text(folder / "README.md", model_card(run.workdir, facts))


_USAGE = """\
Takes float32[batch, {size}, {size}, 3] pictures (RGB, 0..255), gives `logits` float32[batch, {classes}] and
`embedding`. Needs jax, flatbuffers and safetensors alone:

```python
import jax, numpy, safetensors.numpy

model = jax.export.deserialize(bytearray(open("model.jaxexport", "rb").read()))
weights = safetensors.numpy.load_file("weights.safetensors")
outputs = model.call(weights, numpy.zeros((8, {size}, {size}, 3), numpy.float32))
```
"""
_PREPROCESSING = """
Row `i` of `classes.csv` names logit `i`. The program normalises by itself. `preprocessing.json` says how evaluation
came by its pictures: where `shorter_side` is not 0, larger ones were reduced to it and stored as JPEG; the whole
picture was squashed to a square of `canvas_size` pixels; where `pad` is true, it then counts as padded to a square with
the `mean`; out of that the centred square of `crop` times the shorter side was cut (0: the whole picture), and
resampled to `image_size` pixels, antialiased. `mean` and `std` are on the scale 0..1. All of it is done by
`python -m p10k_jax.predict --export=FOLDER --images=PICTURES --output=OUT.csv`.
"""

FORMATS = {"timm": export_timm, "jax": export_jax}


def main() -> None:
    """Reads the run, writes the folder, says how to use it."""
    given, console = flags.FLAGS, Console()
    with clear_errors():
        if given.format not in FORMATS:
            raise ValueError(f"--format={given.format!r} is unknown; known: {', '.join(FORMATS)}.")
        folder = setup.local_folder(given.output, setting="output")
        check_empty(folder, setting="output")
        run = open_run(buckets.opened(given.workdir, setting="workdir", writes=False).folder, given.checkpoint)
        whole = folder.with_name(f"{folder.name}.incomplete")
        shutil.rmtree(whole, ignore_errors=True)
        said = FORMATS[given.format](run, whole).replace(str(whole), str(folder))
        if folder.exists():
            folder.rmdir()
        whole.rename(folder)
    console.say(f"{run.place}, step {run.step:,} -> {folder}\n{said}")


def define_flags() -> None:
    """Defines this program's flags."""
    flags.DEFINE_string("workdir", None, "Folder of a finished run, or gs://BUCKET/PATH.")
    flags.DEFINE_string("format", "timm", f"One of {', '.join(FORMATS)}.")
    flags.DEFINE_string("output", None, "Folder to write; must be empty.")
    flags.DEFINE_string(
        "checkpoint", "", "best, last or a step; empty: the best, or the last where none was evaluated."
    )


if __name__ == "__main__":
    run_program(main, define_flags, required=("workdir", "output"))
