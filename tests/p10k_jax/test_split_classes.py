"""A run whose classes are split over devices: trained, moved, evaluated and exported as any other."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from p10k_jax import recipe, setup
from p10k_jax.evaluate import evaluate
from p10k_jax.evaluate import plan as plan_evaluation
from p10k_jax.evaluation.predictions import read_predictions
from p10k_jax.export import export_timm
from p10k_jax.finished import open_run
from p10k_jax.reporting.progress import Console
from p10k_jax.soup import write_soup
from p10k_jax.train import plan, train
from tests.runs import tiny_config

SHORT = {"duration.steps": 3, "checkpoint.every.percent": 0.0, "optimizer.name": "sgd"}
SPLIT = {"mesh.model": 4}


@pytest.fixture(scope="module")
def runs(tiny_data, tmp_path_factory):
    """Workdir and final state on eight devices, of one run with whole classes and one with split ones."""
    folder, made = tmp_path_factory.mktemp("split"), []
    for name, settings in (("whole", {}), ("split", SPLIT)):
        state = train(plan(tiny_config(tiny_data, **SHORT, **settings), folder / name), Console())
        made.append((folder / name, state))
    return made


def test_the_setting_of_the_mesh_alone_splits_the_classes(runs):
    (_, whole), (workdir, state) = runs
    kernel = state["params"]["head"]["kernel"]
    assert open_run(workdir).config.model.padded_classes == kernel.shape[1] == 128
    assert kernel.addressable_shards[0].data.shape == (48, 32)
    np.testing.assert_allclose(kernel[:, :6], whole["params"]["head"]["kernel"], rtol=1e-3, atol=1e-6)
    assert not np.asarray(kernel)[:, 6:].any()


def test_it_predicts_exports_and_is_started_from_as_one_with_whole_classes(runs, tiny_data, tmp_path):
    tables = []
    for workdir, _ in runs:
        evaluate(plan_evaluation(workdir, "validation", "last", gallery=False), Console())
        tables.append(read_predictions(workdir / "eval" / "validation" / "predictions.parquet"))
    assert tables[0].drop_columns("top5_scores").equals(tables[1].drop_columns("top5_scores"))
    scores = [np.array(table["top5_scores"].to_pylist()) for table in tables]
    np.testing.assert_allclose(*scores, rtol=1e-4)

    run = open_run(runs[1][0])
    export_timm(run, tmp_path / "timm")
    assert safetensors.numpy.load_file(tmp_path / "timm" / "model.safetensors")["head.weight"].shape == (6, 48)
    write_soup(tmp_path / "soup", [run], run.weights(), 0.5, "uniform")
    jax.tree.map(np.testing.assert_array_equal, open_run(tmp_path / "soup").weights(), run.weights())

    config = tiny_config(tiny_data, **SHORT, **SPLIT, **{"model.weights": str(runs[0][0])})
    started = plan(config, tmp_path / "started")
    assert "head.kernel" in recipe.start_weights(started.config, setup.make_model(started.config)).loaded
    kernel = started.init()["params"]["head"]["kernel"]
    np.testing.assert_array_equal(kernel[:, :6], open_run(runs[0][0]).weights()["params"]["head"]["kernel"])


@pytest.mark.parametrize(("begun", "parts", "share"), [(1, 8, 128 // 8), (1, 1, 128), (0, 4, 6)])
def test_it_goes_on_on_another_mesh(runs, tiny_data, begun, parts, share):
    """Where the new axis does not divide the width that the run has, the classes are whole."""
    workdir, state = runs[begun]
    settings = {"mesh.model": parts}
    resumed = plan(tiny_config(tiny_data, **SHORT, **settings), workdir)
    moved = train(resumed, Console())  # at its end: nothing but restored
    kernel = moved["params"]["head"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (48, share)
    np.testing.assert_array_equal(kernel, state["params"]["head"]["kernel"])


def test_a_classifier_narrower_than_its_classes_is_refused(tiny_data, tmp_path):
    with pytest.raises(ValueError, match=r"model\.padded_classes=5 is less than model\.num_classes=6"):
        plan(tiny_config(tiny_data, **{"model.padded_classes": 5}), tmp_path / "workdir")
