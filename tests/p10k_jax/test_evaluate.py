"""The figures that evaluation reports, against scikit-learn; exact counts on any batch size and mesh."""

import base64
import io
import json

import jax
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score, top_k_accuracy_score

from p10k_jax import setup
from p10k_jax.data.classes import read_classes
from p10k_jax.data.splits import open_split
from p10k_jax.evaluate import evaluate
from p10k_jax.evaluate import plan as plan_evaluation
from p10k_jax.evaluation.figures import figures as figures_of
from p10k_jax.evaluation.predictions import SCHEMA, read_predictions
from p10k_jax.reporting.gallery import read_gallery, thumbnail
from p10k_jax.reporting.progress import Console
from p10k_jax.train import plan, train
from p10k_jax.training.mesh import make_mesh
from p10k_jax.training.state import evaluation_weights
from tests.runs import tiny_config
from tfds_builder.prepare import prepare


@pytest.fixture(scope="module")
def workdir(tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "workdir"
    train(plan(tiny_config(tiny_data), folder), Console())
    return folder


@pytest.mark.parametrize("split", ["test", "validation"])
def test_metrics_equal_scikit_learn_to_the_last_digit(workdir, split):
    evaluate(plan_evaluation(workdir, split, "last"), Console())
    figures = json.loads((workdir / "eval" / split / "metrics.json").read_text())
    table = read_predictions(workdir / "eval" / split / "predictions.parquet")
    assert table.schema.equals(SCHEMA)
    frame = table.to_pydict()
    labels, ranked = np.array(frame["label"]), np.array(frame["top5_labels"])
    assert frame["name"] == sorted(frame["name"])
    assert figures["step"] == 30
    assert figures["count"] == len(labels)
    assert figures["top1"] == accuracy_score(labels, ranked[:, 0])
    scores = np.zeros((len(labels), 6))
    np.put_along_axis(scores, ranked, np.array(frame["top5_scores"]), axis=1)
    assert figures["top5"] == top_k_accuracy_score(labels, scores, k=5, labels=range(6))
    usages = np.array(frame["usage"])
    for usage in {"public", "private"} & set(usages):
        here = usages == usage
        assert figures[f"top1_{usage}"] == accuracy_score(labels[here], ranked[here, 0])
        assert figures[f"count_{usage}"] == here.sum()
    assert ("top1_public" in figures) == (split == "test")
    recall = recall_score(labels, ranked[:, 0], labels=np.unique(labels), average="macro", zero_division=0)
    assert figures["mean_per_class"] == pytest.approx(recall, rel=1e-12)
    low, high = figures["intervals"]["top1"]
    assert 0 <= low <= figures["top1"] <= high <= 1
    ordered = np.array(frame["top5_scores"])
    assert (np.diff(ordered, axis=1) <= 0).all()
    assert (ordered.sum(axis=1) <= 1 + 1e-6).all()


def test_a_workdir_is_enough_to_compute_the_figures_again(workdir):
    """Also one that an earlier version left without `classes.csv`."""
    written = (workdir / "classes.csv").read_text()
    (workdir / "classes.csv").unlink()
    said = io.StringIO()
    returned = evaluate(plan_evaluation(workdir, "test", "last"), Console(said))
    assert (workdir / "classes.csv").read_text() == written
    folder = workdir / "eval" / "test"
    figures = json.loads((folder / "metrics.json").read_text())
    again = figures_of(read_predictions(folder / "predictions.parquet"), read_classes(workdir))
    assert figures == returned == again | {"step": 30, "image_size": 32, "crop": figures["crop"]}
    assert figures["confusions"][0]["label_name"] in read_classes(workdir).names
    assert f"top-1              {figures['top1']:.4f}" in said.getvalue()


def test_predictions_do_not_depend_on_batch_size_or_devices(workdir, tiny_data):
    """Any batch size, one device or eight, other mesh: each image once, the same labels."""
    builder = prepare("drawn_catalogue", config="tiny", data_dir=tiny_data)
    split = open_split(builder, "test")
    run = plan(tiny_config(tiny_data), workdir)
    config, model = run.config, setup.make_model(run.config)
    params, batch_stats = jax.device_get(evaluation_weights(run.init()))
    params["head"]["kernel"] = (
        np.random.RandomState(0)
        .standard_normal(
            params["head"]["kernel"].shape,
        )
        .astype("f")
    )
    one, eight = make_mesh(1, devices=jax.devices()[:1]), make_mesh()
    tables = []
    for mesh, batch_size in [(one, 1), (one, 7), (one, 24), (eight, 8), (eight, 40), (make_mesh(2, 2, 2), 12)]:
        config.eval.batch_size = batch_size
        table, report = setup.make_evaluator(config, model, split, mesh)(params, batch_stats)
        assert table.num_rows == 24
        assert report.counts.sum() == 24
        tables.append(table)
    assert len(set(map(tuple, tables[0]["top5_labels"].to_pylist()))) > 5, "the predictions must be able to differ"
    for table in tables[1:]:
        assert table.drop_columns("top5_scores").equals(tables[0].drop_columns("top5_scores"))
        np.testing.assert_allclose(
            np.array(table["top5_scores"].to_pylist()), np.array(tables[0]["top5_scores"].to_pylist()), rtol=1e-4
        )


def test_another_resolution_and_crop(workdir):
    evaluation = plan_evaluation(workdir, "validation", "last", image_size=48, crop=0.5)
    assert evaluation.evaluator.canvas_size == 55
    assert evaluation.settings == {"image_size": 48, "crop": 0.5}
    plain = plan_evaluation(workdir, "validation", "last")
    tables = [
        planned.evaluator(*evaluation_weights(planned.load()))[0].column("top5_scores")
        for planned in (evaluation, plain)
    ]
    assert not tables[0].equals(tables[1])
    with pytest.raises(ValueError, match="Images of 33 x 33 pixels do not divide into patches of 8"):
        plan_evaluation(workdir, "validation", "last", image_size=33)


def test_refusals_leave_the_workdir_as_it_was(workdir, tmp_path):
    before = sorted(workdir.rglob("*"))
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        plan_evaluation(tmp_path, "test", "best")
    with pytest.raises(ValueError, match=r"no split 'tset'. Did you mean 'test'"):
        plan_evaluation(workdir, "tset", "best")
    with pytest.raises(ValueError, match=r"checkpoint='7': give 'last', 'best' or one of the steps"):
        plan_evaluation(workdir, "test", "7")
    with pytest.raises(ValueError, match=r"batch_size=12 does not divide over the 8 batch shards"):
        plan_evaluation(workdir, "test", "last", batch_size=12)
    assert sorted(workdir.rglob("*")) == before


def test_other_data_is_refused(workdir, tmp_path):
    other = "classes6-groups2-train60-test24-side48-seed9"
    prepare("drawn_catalogue", config=other, data_dir=tmp_path, progress=False)
    (tmp_path / "drawn_catalogue" / other).rename(tmp_path / "drawn_catalogue" / "tiny")
    with pytest.raises(ValueError, match=r"holds other data \(fingerprint .* than the run was trained on"):
        plan_evaluation(workdir, "test", "last", data_dir=str(tmp_path))


def test_a_run_of_another_mesh_is_evaluated_on_the_devices_at_hand(workdir):
    record = workdir / "config.json"
    config = json.loads(record.read_text())
    record.write_text(json.dumps(config | {"mesh": {"data": 2, "fsdp": 1, "model": 1}}))
    evaluation = plan_evaluation(workdir, "validation", "last")
    record.write_text(json.dumps(config))
    assert dict(evaluation.evaluator.mesh.shape) == {"data": 8, "fsdp": 1, "model": 1}


def test_a_head_wider_than_the_data_predicts_only_its_classes(tiny_data, tmp_path):
    config = tiny_config(tiny_data, **{"model.num_classes": 16})
    run = plan(config, tmp_path / "workdir")
    params, batch_stats = jax.device_get(evaluation_weights(run.init()))
    params["head"]["bias"] = np.arange(16, dtype=np.float32)
    table, _ = run.validate(params, batch_stats)
    assert {label for row in table["top5_labels"].to_pylist() for label in row} == {1, 2, 3, 4, 5}


def test_the_gallery_shows_the_mistakes(workdir, tiny_data):
    """Names, labels and pixels: a mix-up of rows and records would show other pictures."""
    evaluate(plan_evaluation(workdir, "test", "last"), Console())
    folder = workdir / "eval" / "test"
    rows = {row["name"]: row for row in read_predictions(folder / "predictions.parquet").to_pylist()}
    gallery = read_gallery(folder)
    mistakes = {name for name, row in rows.items() if row["label"] != row["top5_labels"][0]}
    assert gallery.surest
    assert set(gallery.surest) | set(gallery.others) <= mistakes
    split = open_split(prepare("drawn_catalogue", config="tiny", data_dir=tiny_data), "test")
    records = {(example := split.read(number)).name: example for number in range(len(split))}
    for name, address in (gallery.surest | gallery.others).items():
        assert base64.b64decode(address.partition(",")[2]) == thumbnail(records[name].image)

    def shown():
        section = (workdir / "report.html").read_text().split('<h2 id="split-')[1]
        assert "The test split" in section
        return section.count('<article class="mistake"')

    assert shown() == len(gallery.surest)
    evaluate(plan_evaluation(workdir, "test", "last", gallery=False), Console())
    assert not (folder / "pictures.parquet").exists()
    assert shown() == 0
