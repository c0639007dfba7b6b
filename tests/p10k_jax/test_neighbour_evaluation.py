"""`evaluate` with several views, with embeddings and with neighbours, on the files that it writes."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.neighbors import KNeighborsClassifier

from p10k_jax import setup
from p10k_jax.config import read_workdir
from p10k_jax.evaluate import _numbers, evaluate, plan
from p10k_jax.evaluation.files import read_embeddings
from p10k_jax.evaluation.knn import prototypes
from p10k_jax.evaluation.metrics import metrics
from p10k_jax.evaluation.predictions import Predictions, make_predict_step, read_predictions
from p10k_jax.models.functional import Model
from p10k_jax.models.heads import Outputs
from p10k_jax.neighbour_evaluation import _Found
from p10k_jax.reporting.progress import Console
from p10k_jax.training.mesh import make_mesh
from p10k_jax.training.state import evaluation_weights
from tests.tables import table as rows_of

METHODS = ("knn", "prototypes", "fused")


@pytest.fixture(scope="module")
def judged(finished, tmp_path_factory):
    """A workdir whose validation and test splits were judged, and whose training split was embedded."""
    workdir = tmp_path_factory.mktemp("judged") / "workdir"
    shutil.copytree(finished[0], workdir)
    evaluate(plan(workdir, "train", "last", embeddings=True, batch_size=40), Console())
    for split in ("validation", "test"):
        evaluate(plan(workdir, split, "last", embeddings=True, neighbours=True), Console())
    return workdir


def read(workdir, split):
    folder = workdir / "eval" / split
    figures = json.loads((folder / "neighbours.json").read_text())
    tables = {method: read_predictions(folder / f"predictions_{method}.parquet") for method in METHODS}
    return figures, read_predictions(folder / "predictions.parquet"), tables


def embedded(workdir, split):
    """Unit vectors in float64 and labels, in the table's order."""
    names, vectors = read_embeddings(workdir / "eval" / split / "embeddings.parquet")
    table = read_predictions(workdir / "eval" / split / "predictions.parquet")
    assert names == table["name"].to_pylist() == sorted(set(names))
    assert vectors.dtype == np.float32
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), table["label"].to_numpy()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_figures_are_those_of_the_tables(judged, split):
    figures, head, tables = read(judged, split)
    assert figures["step"] == 30
    assert (figures["image_size"], figures["crop"]) == (32, 0.0)
    for method, table in {"head": head, **tables}.items():
        for key in ("top1", "top5"):
            assert figures[method][key] == metrics(table)[key]
        assert table.select(["name", "label", "group", "usage"]).equals(
            head.select(["name", "label", "group", "usage"])
        )
    labels = head["label"].to_numpy()
    assert figures["split"] == {"images": len(labels), "embedding_size": 48}
    assert figures["gallery"]["images"] == len(embedded(judged, "train")[1])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_votes_and_prototypes_equal_scikit_learn_and_numpy(judged, split):
    figures, _, tables = read(judged, split)
    train, train_labels = embedded(judged, "train")
    queries, labels = embedded(judged, split)
    for k, top1 in figures["knn"]["top1_by_k"].items():
        oracle = KNeighborsClassifier(
            min(int(k), len(train)), metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
        ).fit(train, train_labels)
        assert top1 == oracle.score(queries, labels)
        if int(k) == figures["knn"]["k"]:
            assert top1 == figures["knn"]["top1"]
            scores = np.sort(oracle.predict_proba(queries), axis=1)[:, ::-1][:, :5]
            np.testing.assert_allclose(np.array(tables["knn"]["top5_scores"].to_pylist()), scores, atol=1e-4)
    means = np.stack([train[train_labels == label].mean(axis=0) for label in range(6)])
    cosines = queries @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    ranked = np.array(tables["prototypes"]["top5_labels"].to_pylist())
    np.testing.assert_array_equal(ranked, np.argsort(-cosines, axis=1, kind="stable")[:, :5])


def test_a_class_without_a_vote_or_a_prototype_is_no_prediction():
    """Else the lowest labels would fill the first five, and be right for images of those classes."""
    embedding = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    head = rows_of([0, 5], [[1, 2, 3, 4, 5]] * 2, ["", ""])
    more = {"neighbours": np.array([[0, 1], [1, 0]]), "similarities": np.array([[1.0, 0.5], [1.0, 0.5]], np.float32)}
    more |= {"neighbour_scores": np.zeros((2, 2), np.float32), "embedding": embedding}
    found = _Found(Predictions(head, np.arange(2), more), np.array([6, 5]), num_classes=8)
    means, present = prototypes(embedding, np.array([6, 5]), num_classes=8)
    for predicted in (found.voted(2), found.by_prototypes(means, present)):
        assert predicted["top5_labels"].to_pylist() == [[6, 5, -1, -1, -1], [5, 6, -1, -1, -1]]
        assert metrics(predicted)["top5"] == 0.5
    assert found.voted(1)["top5_labels"].to_pylist() == [[6, -1, -1, -1, -1], [5, -1, -1, -1, -1]]


def test_k_and_weight_are_chosen_on_validation_alone(judged):
    on_itself, head, _ = read(judged, "validation")
    on_test, test_head, tables = read(judged, "test")
    assert on_test["choice"] == on_itself["choice"]
    curve = np.array(list(on_test["choice"]["top1_by_k"].values())).T
    assert curve.shape == (11, 6)
    assert on_test["choice"]["split"] == on_test["knn"]["chosen_on"] == on_test["fused"]["chosen_on"] == "validation"
    assert on_itself["knn"]["chosen_on"] == on_itself["fused"]["chosen_on"] == "itself"
    assert (curve[0] == metrics(head)["top1"]).all(), "weight 0 is the head"
    assert curve[-1].tolist() == list(on_itself["knn"]["top1_by_k"].values()), "weight 1 is the votes"
    assert on_itself["fused"]["top1"] == curve.max()
    for figures in (on_itself, on_test):
        weight, k = (figures["fused"][key] for key in ("weight", "k"))
        assert curve[round(10 * weight), list(on_test["choice"]["top1_by_k"]).index(str(k))] == curve.max()
    assert on_itself["knn"]["top1"] == curve[-1].max()
    assert tables["fused"].num_rows == test_head.num_rows


def test_the_fused_table_is_head_and_votes_mixed(judged):
    """Six classes of which the table holds five: the sixth is what is missing to one."""
    figures, head, tables = read(judged, "test")

    def whole(table):
        out = np.zeros((table.num_rows, 6))
        ranked = np.array(table["top5_labels"].to_pylist())
        np.put_along_axis(out, ranked, np.array(table["top5_scores"].to_pylist()), axis=1)
        np.put_along_axis(out, 15 - ranked.sum(axis=1, keepdims=True), 1 - out.sum(axis=1, keepdims=True), axis=1)
        return out

    train, train_labels = embedded(judged, "train")
    queries, _ = embedded(judged, "test")
    weight, k = figures["fused"]["weight"], figures["fused"]["k"]
    oracle = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    votes = oracle.fit(train, train_labels).predict_proba(queries)
    expected = np.sort((1 - weight) * whole(head) + weight * votes, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(np.array(tables["fused"]["top5_scores"].to_pylist()), expected, atol=1e-4)


def test_neighbours_and_retrieval_equal_brute_force(judged):
    figures, head, _ = read(judged, "test")
    train, train_labels = embedded(judged, "train")
    queries, labels = embedded(judged, "test")
    order = np.argsort(-(queries @ train.T), axis=1, kind="stable")
    table = pq.read_table(judged / "eval" / "test" / "neighbours.parquet")
    assert table["name"].equals(head["name"])
    names = np.array(read_embeddings(judged / "eval" / "train" / "embeddings.parquet")[0])
    assert table["neighbours"].to_pylist() == names[order[:, :10]].tolist()
    assert table["neighbour_labels"].to_pylist() == train_labels[order[:, :10]].tolist()
    expected = np.take_along_axis(queries @ train.T, order[:, :10], axis=1)
    np.testing.assert_allclose(np.array(table["similarities"].to_pylist()), expected, atol=1e-5)
    among = queries @ queries.T
    np.fill_diagonal(among, -np.inf)
    itself = np.argsort(-among, axis=1, kind="stable")[:, : len(queries) - 1]
    for where, found in (("gallery", train_labels[order]), ("itself", labels[itself])):
        hits = found == labels[:, None]
        assert figures["retrieval"][where]["queries"] == len(labels)
        for k in (1, 5, 10):
            assert figures["retrieval"][where][f"recall_at_{k}"] == hits[:, :k].any(axis=1).mean()
        precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
        for k in (10, 100):
            average = (precision * hits)[:, :k].sum(axis=1) / np.minimum(k, hits.sum(axis=1))
            np.testing.assert_allclose(figures["retrieval"][where][f"map_at_{k}"], average.mean(), rtol=1e-12)


def test_embeddings_classify_as_the_head_did_on_any_batch_size_and_mesh(judged):
    evaluation = plan(judged, "test", "last")
    params, batch_stats = jax.device_get(evaluation_weights(evaluation.load()))
    config = read_workdir(judged)
    model, data = setup.make_model(config), evaluation.evaluator.split
    names, vectors = read_embeddings(judged / "eval" / "test" / "embeddings.parquet")
    for mesh, batch_size in [(make_mesh(1, devices=jax.devices()[:1]), 7), (make_mesh(2, 2, 2), 20)]:
        config.eval.batch_size = batch_size
        found, _ = setup.make_evaluator(config, model, data, mesh, embed=True).run(params, batch_stats)
        assert found.table["name"].to_pylist() == names
        np.testing.assert_allclose(found.more["embedding"], vectors, rtol=1e-4, atol=1e-5)
    scores, labels = jax.lax.top_k(jax.nn.softmax(model.classify(params, vectors)), 5)
    table = read_predictions(judged / "eval" / "test" / "predictions.parquet")
    assert table["top5_labels"].to_pylist() == labels.tolist()
    np.testing.assert_allclose(np.array(table["top5_scores"].to_pylist()), scores, rtol=1e-5)


def test_without_neighbours_nothing_of_it_is_done(judged, tmp_path):
    workdir = tmp_path / "workdir"
    shutil.copytree(judged, workdir, ignore=shutil.ignore_patterns("eval"))
    evaluation = plan(workdir, "validation", "last")
    evaluate(evaluation, Console())
    assert evaluation.judges is None
    assert sorted(p.name for p in (workdir / "eval" / "validation").iterdir()) == [
        "metrics.json",
        "pictures.parquet",
        "predictions.parquet",
    ]


def test_the_page_has_the_figures(judged):
    figures = json.loads((judged / "eval" / "test" / "neighbours.json").read_text())
    page = (judged / "report.html").read_text()
    for what, value in {
        "nearest neighbours": figures["knn"]["top1"],
        "prototypes": figures["prototypes"]["top1"],
        "head and neighbours": figures["fused"]["top1"],
        "retrieval": figures["retrieval"]["gallery"]["recall_at_1"],
        "mAP@10": figures["retrieval"]["gallery"]["map_at_10"],
    }.items():
        assert f'<span class="what">{what}</span><span class="figure">{100 * value:.2f} %</span>' in page


def test_a_split_that_shares_pictures_with_the_gallery_is_refused(judged):
    for split in ("train", "train[:10%]", "test+train[90%:]"):
        with pytest.raises(ValueError, match="shares pictures with 'train'"):
            plan(judged, split, "last", neighbours=True)


def test_without_a_validation_split_nothing_is_chosen(judged, tmp_path):
    workdir = tmp_path / "workdir"
    shutil.copytree(judged, workdir, ignore=shutil.ignore_patterns("eval"))
    config = json.loads((workdir / "config.json").read_text())
    config["eval"]["split"] = ""
    (workdir / "config.json").write_text(json.dumps(config))
    evaluate(plan(workdir, "test", "last", neighbours=True), Console())
    figures, _, _ = read(workdir, "test")
    assert {key: figures["fused"][key] for key in ("k", "weight", "chosen_on")} == {
        "k": 20,
        "weight": 0.5,
        "chosen_on": None,
    }
    assert figures["choice"] is None


def test_several_views_are_the_mean_of_each_alone(judged):
    """Two sizes, two crops and their mirror images, against probabilities of each computed by hand."""
    settings = {"image_size": [32, 48], "crop": [0.0, 0.75], "flip": True}
    evaluation = plan(judged, "test", "last", **settings, embeddings=True)
    assert evaluation.evaluator.canvas_size == 55
    assert evaluation.settings == settings
    weights = evaluation_weights(evaluation.load())
    found, _ = evaluation.evaluator.run(*weights)
    probabilities, embeddings = np.zeros((24, 6)), np.zeros((24, 48))
    config, model = read_workdir(judged), setup.make_model(read_workdir(judged))
    params, batch_stats = jax.device_get(weights)
    for size in (32, 48):
        for crop in (0.0, 0.75):
            views = setup.evaluation_views(image_size=size, crop=crop, statistics=setup.normalisation(config))
            for mirror in (1, -1):
                # A model that sees the mirror image; the rest is one view as ever.
                def apply(params, stats, images, mirror=mirror):
                    return model.apply(params, stats, images[:, :, ::mirror])

                step = make_predict_step(Model(model.init, apply, model.classify), [views], num_classes=6, embed=True)
                one = evaluation.evaluator._replace(predict=jax.jit(step), mesh=make_mesh(1, devices=jax.devices()[:1]))
                alone, _ = one.run(params, batch_stats)
                logits = np.asarray(model.classify(params, alone.more["embedding"]), np.float64)
                exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
                probabilities += exponents / exponents.sum(axis=1, keepdims=True) / 8
                vectors = alone.more["embedding"]
                embeddings += vectors / np.linalg.norm(vectors, axis=1, keepdims=True) / 8
    scores = np.array(found.table["top5_scores"].to_pylist())
    np.testing.assert_allclose(scores, np.sort(probabilities, axis=1)[:, ::-1][:, :5], atol=1e-5)
    np.testing.assert_allclose(found.more["embedding"], embeddings, atol=1e-5)


def test_one_view_in_a_list_is_the_one_view_bit_for_bit(judged):
    plain, listed = (
        plan(judged, "validation", "last", image_size=size, crop=crop) for size, crop in ((32, 0.5), ([32], [0.5]))
    )
    assert plain.settings == listed.settings == {"image_size": 32, "crop": 0.5}
    weights = evaluation_weights(plain.load())
    assert plain.evaluator(*weights)[0].equals(listed.evaluator(*weights)[0])


def test_fusion_takes_probabilities_averaged_over_views():
    """Of a model whose logits are pixels: the neighbours' classes get their averaged probabilities."""
    from p10k_jax.evaluation.neighbours import make_gallery

    random = np.random.RandomState(0)
    pixels = random.standard_normal((3, 1, 9, 3)).astype("f")

    def apply(params, stats, images):
        flat = images.reshape(3, 27)
        return Outputs(flat[:, :8], flat[:, 8:12]), stats

    views = [lambda keys, images, aspect, by=by: images * by for by in (1.0, -2.0)]
    step = make_predict_step(Model(None, apply, None), views, num_classes=8, embed=True, neighbours=6)
    gallery = make_gallery(random.standard_normal((5, 4)), np.array([7, 0, 2, 2, 5]), chunk=2)
    numbers = jnp.arange(3)
    batch = {
        "image": pixels,
        "aspect": jnp.ones(3),
        "index": numbers,
        "label": numbers,
        "group": numbers,
        "mask": numbers,
    }
    rows = jax.jit(step)({}, {}, batch, gallery=gallery)
    logits = pixels.reshape(3, 27)[:, :8].astype(np.float64)
    soft = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (logits, -2 * logits)]
    mean = (soft[0] + soft[1]) / 2
    places = np.asarray(rows["neighbours"])
    assert sorted(places[0, :5].tolist()) == [0, 1, 2, 3, 4]
    assert (places[:, 5] == -1).all()
    expected = np.take_along_axis(mean, gallery.labels[places[:, :5]], axis=1)
    np.testing.assert_allclose(rows["neighbour_scores"][:, :5], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": [32, 32]}, r"sizes or crops \[32, 32\]: give at least one, and each once"),
        ({"image_size": 0}, r"--image_size=\(0,\): sides in pixels"),
        ({"crop": [0.0, 1.5]}, r"eval\.crop=1\.5 is outside 0\.\.1"),
        ({"image_size": [32, 33]}, "Images of 33 x 33 pixels do not divide"),
    ],
)
def test_bad_views(judged, settings, message):
    with pytest.raises(ValueError, match=message):
        plan(judged, "validation", "last", **settings)


def test_flags_hold_lists_of_numbers():
    assert _numbers("crop", ["0", "0.875"], float, "fractions") == (0.0, 0.875)
    assert _numbers("crop", None, float, "fractions") is None
    with pytest.raises(ValueError, match=r"--image_size=182,2x4: give whole numbers"):
        _numbers("image_size", ["182", "2x4"], int, "whole numbers of pixels")
