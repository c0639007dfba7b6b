"""The code of docs/extending.md is run as it stands: its model trains with its head and loss on its dataset."""

import importlib
import json
import re
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

import tfds_builder
from p10k_jax import evaluate as evaluate_program
from p10k_jax.evaluation.predictions import read_predictions
from p10k_jax.finished import open_run
from p10k_jax.models import create, heads, registry
from p10k_jax.models.heads import HeadSettings
from p10k_jax.reporting.progress import Console
from p10k_jax.train import plan, train
from p10k_jax.training import losses
from p10k_jax.weights.timm_export import timm_model, timm_tensors
from tests.runs import SETTINGS
from tfds_builder.drawn_catalogue.plan import PRESETS
from tfds_builder.drawn_catalogue.write import write_raw_catalogue
from tfds_builder.prepare import prepare

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
CONFIG = 3


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Each block as a module of its own, the registries as they were before when all is done."""
    registries = (losses.LOSSES, heads.HEADS, registry.OTHERS, tfds_builder.BUILDERS)
    before = [dict(names) for names in registries]
    folder = tmp_path_factory.mktemp("blocks")
    names = ["own_loss", "own_head", "own_model", "own_config", "json_catalogue.json_catalogue_dataset_builder"]
    for name, block in zip(names, BLOCKS, strict=True):
        path = folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(block)
    (folder / "json_catalogue" / "__init__.py").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield [importlib.import_module(name) for name in names]
    for names, old in zip(registries, before, strict=True):
        names.clear()
        names.update(old)


def test_every_block_is_short_and_known():
    assert len(BLOCKS) == 5
    assert max(len(block.splitlines()) for block in BLOCKS) < 40


def test_the_loss_is_that_of_the_paper(modules):
    random = np.random.RandomState(0)
    logits, labels = random.randn(6, 5).astype(np.float32), random.randint(0, 5, 6).astype(np.int32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    of_label = probabilities[np.arange(6), labels].astype(np.float64)
    loss = losses.make_loss("poly")
    np.testing.assert_allclose(loss(jnp.asarray(logits), jnp.asarray(labels)), 1 - of_label - np.log(of_label), 1e-5)


def test_the_head_gives_scaled_cosines_and_timm_has_no_such_thing(modules):
    settings = HeadSettings(name="tempered", scale=14.0)
    head = heads.HEADS["tempered"](24, 7, settings, nnx.Rngs(0))
    embedding, kernel = np.random.RandomState(0).randn(3, 24), np.asarray(head.kernel[...], np.float64)
    cosines = embedding @ kernel / np.linalg.norm(embedding, axis=1)[:, None] / np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(head(jnp.asarray(embedding, jnp.float32)), 14 * cosines, atol=1e-4)
    heads.check_head(settings)
    with pytest.raises(ValueError, match=r"head.name='tempered' is not known to be a linear layer"):
        timm_tensors({}, {}, settings)


def test_the_model_has_the_parameters_of_the_paper(modules):
    """ConvMixer: (p^2 3 + 1) h for the stem, ((k^2 + 1) + (h + 1)) h a block, 2h a norm, and the head."""
    model = create("convmixer-256/8", num_classes=10, image_size=32)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    stem, block = (7**2 * 3 + 1) * 256 + 2 * 256, (9**2 + 1 + 256 + 1) * 256 + 4 * 256
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == stem + 8 * block + (256 + 1) * 10
    assert "convmixer-256/8" in registry.known_names()
    with pytest.raises(ValueError, match=r"timm has no model like 'convmixer-256/8'"):
        timm_model("convmixer-256/8", {}, 32)


@pytest.fixture(scope="module")
def json_lines(tmp_path_factory):
    """The smallest drawn catalogue as the block's dataset wants it."""
    folder = tmp_path_factory.mktemp("json") / "raw"
    write_raw_catalogue(PRESETS["tiny"], folder, workers=1)
    rows = []
    for split, table in (("train", "train.csv"), ("test", "test_kaggletest.csv")):
        with zipfile.ZipFile(folder / f"{split}.zip") as archive:
            archive.extractall(folder / split)
        places = {path.name: str(path.relative_to(folder)) for path in (folder / split).rglob("*.*")}
        for line in (folder / table).read_text().splitlines()[1:]:
            name, product = line.split(",")[:2]
            rows.append({"file": places[name], "product": f"product {product}", "split": split})
    (folder / "catalogue.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder, rows


def test_all_of_it_trains_and_is_evaluated(modules, json_lines, tmp_path):
    folder, rows = json_lines
    builder = prepare("json_catalogue", data_dir=tmp_path / "data", manual_dir=folder, progress=False)
    assert builder.info.splits["test"].num_examples == sum(row["split"] == "test" for row in rows)
    config = modules[CONFIG].get_config()
    values = {key: value for key, value in SETTINGS.items() if not key.startswith("model.")}
    values |= {"data.name": "json_catalogue", "data.config": "", "data.data_dir": str(tmp_path / "data")}
    values |= {"duration.steps": 4, "loss.name": "poly", "head.name": "tempered", "model.options.depth": 1}
    for key, value in values.items():
        node: ConfigDict = config
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    state = train(plan(config, tmp_path / "W"), Console())
    assert np.isfinite(jax.device_get(state["params"]["head"]["log_scale"]))
    assert open_run(tmp_path / "W").config.model.name == "convmixer-256/8"
    figures = evaluate_program.evaluate(evaluate_program.plan(tmp_path / "W", "test", "last"), Console())
    assert figures["count"] == builder.info.splits["test"].num_examples
    assert read_predictions(tmp_path / "W/eval/test/predictions.parquet").num_rows == figures["count"]
