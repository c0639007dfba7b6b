"""Carries a trained model elsewhere: to timm, or as a program that runs without this package.

    python -m p10k_jax.export --workdir=W --format=timm --output=OUT
    python -m p10k_jax.export --workdir=W --format=jax --output=OUT

`timm` writes `model.safetensors` and `config.json`, the folder that timm and the Hugging Face hub call a model. `jax`
writes StableHLO (`model.jaxexport`; any batch size; CPU, GPU and TPU) and the weights that it takes
(`weights.safetensors`).
"""

import math
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import flags
from jax import export as jax_export
from ml_collections import ConfigDict

from p10k_jax import setup
from p10k_jax.config import check_empty, clear_errors, run_program
from p10k_jax.data.augment import normalise
from p10k_jax.files import write_bytes, write_json, write_text
from p10k_jax.finished import FinishedRun, open_run
from p10k_jax.models import HeadSettings
from p10k_jax.models.functional import Tree
from p10k_jax.models.transformer import resample_positions
from p10k_jax.reporting.progress import Console
from p10k_jax.weights.fit import nested
from p10k_jax.weights.state_dict import tree_paths
from p10k_jax.weights.timm_export import timm_model, timm_tensors

PLATFORMS = ("cpu", "cuda", "tpu")


def head_of(run: FinishedRun) -> HeadSettings:
    """What stands on the run's trunk."""
    return HeadSettings(**run.config.head, num_groups=run.config.model.num_groups)


def export_timm(run: FinishedRun, folder: Path) -> str:
    """Writes `model.safetensors` and `config.json`; returns what to say of it.

    Raises:
        ValueError: a model that timm has no counterpart of.
    """
    config = run.config
    options = {key: value for key, value in config.model.options.items() if value is not None}
    architecture, arguments = timm_model(config.model.name, options, config.eval.image_size)
    weights = run.weights()
    if "img_size" in arguments:
        weights["params"] = _at_size(run, weights["params"])
    tensors, note = timm_tensors(weights["params"], weights["batch_stats"], head_of(run))
    write_bytes(folder / "model.safetensors", safetensors.numpy.save(tensors, {"format": "pt"}))
    (classifier,) = {name.removesuffix(".weight") for name in tensors} & {"head", "fc", "head.fc"}
    write_json(folder / "config.json", timm_config(config, architecture, arguments, classifier))
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


def _at_size(run: FinishedRun, params: Tree) -> Tree:
    """The parameters with the table of positions for the size that the run is evaluated at, which timm asks for."""
    if "pos_embed" not in params or run.config.eval.image_size == run.config.data.image_size:
        return params
    larger = setup.make_model(run.config, image_size=run.config.eval.image_size)
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
    """Writes `model.jaxexport`, `weights.safetensors` and a page on how to call them; returns what to say of it."""
    config = run.config
    weights = run.weights()
    statistics = setup.normalisation(config)
    size = config.eval.image_size

    def program(tensors: dict[str, jax.Array], images: jax.Array) -> dict[str, jax.Array]:
        tree = nested(tensors)
        inputs = normalise(images.astype(jnp.float32), statistics)
        outputs, _ = run.model.apply(tree["params"], tree.get("batch_stats", {}), inputs)
        return {"logits": outputs.logits, "embedding": outputs.embedding}

    tensors = {path: np.ascontiguousarray(value) for path, value in tree_paths(weights).items()}
    shapes = {path: jax.ShapeDtypeStruct(value.shape, value.dtype) for path, value in tensors.items()}
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    exported = jax_export.export(jax.jit(program), platforms=PLATFORMS)(shapes, images)
    write_bytes(folder / "model.jaxexport", bytes(exported.serialize()))
    write_bytes(folder / "weights.safetensors", safetensors.numpy.save(tensors))
    usage = _USAGE.format(size=size, classes=config.model.num_classes)
    write_text(folder / "README.md", usage)
    return usage


_USAGE = """\
Takes uint8[batch, {size}, {size}, 3] pictures (RGB), gives `logits` float32[batch, {classes}] and `embedding`.
Needs jax, flatbuffers and safetensors alone:

```python
import jax, numpy, safetensors.numpy

model = jax.export.deserialize(bytearray(open("model.jaxexport", "rb").read()))
weights = safetensors.numpy.load_file("weights.safetensors")
outputs = model.call(weights, numpy.zeros((8, {size}, {size}, 3), numpy.uint8))
```
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
        run = open_run(setup.local_folder(given.workdir, setting="workdir"), given.checkpoint)
        whole = folder.with_name(f"{folder.name}.incomplete")
        shutil.rmtree(whole, ignore_errors=True)
        said = FORMATS[given.format](run, whole).replace(str(whole), str(folder))
        if folder.exists():
            folder.rmdir()
        whole.rename(folder)
    console.say(f"{run.workdir}, step {run.step:,} -> {folder}\n{said}")


def define_flags() -> None:
    """Defines this program's flags."""
    flags.DEFINE_string("workdir", None, "Folder of a finished run.")
    flags.DEFINE_string("format", "timm", f"One of {', '.join(FORMATS)}.")
    flags.DEFINE_string("output", None, "Folder to write; must be empty.")
    flags.DEFINE_string(
        "checkpoint", "", "best, last or a step; empty: the best, or the last where none was evaluated."
    )


if __name__ == "__main__":
    run_program(main, define_flags, required=("workdir", "output"))
