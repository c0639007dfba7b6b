import jax
import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from p10k_jax.evaluation import predictions
from p10k_jax.evaluation.metrics import metrics
from tests.tables import table


def test_equals_scikit_learn_on_random_tables():
    random = np.random.RandomState(0)
    labels = random.randint(0, 9, 4001)
    ranked = np.stack([random.permutation(9)[:5] for _ in labels])
    usages = random.choice(["public", "private"], 4001)
    figures = metrics(table(labels, ranked.tolist(), usages.tolist()))
    assert figures["count"] == 4001
    assert figures["top1"] == accuracy_score(labels, ranked[:, 0])
    for usage in ("public", "private"):
        here = usages == usage
        assert figures[f"top1_{usage}"] == accuracy_score(labels[here], ranked[here, 0])
    assert figures["top5"] == np.mean([label in row for label, row in zip(labels, ranked, strict=True)])


def test_without_usage_there_are_no_usage_figures():
    assert metrics(table([0, 1], [[0], [0]], ["", ""])) == {"count": 2, "top1": 0.5, "top5": 0.5}


def test_no_rows():
    with pytest.raises(ValueError, match="without rows"):
        metrics(predictions.SCHEMA.empty_table())


def fake_batches(masks, indices):
    """Batches whose device part is what the step returns."""
    for mask, index in zip(masks, indices, strict=True):
        rows = len(index)
        device = {
            "index": np.array(index),
            "mask": np.array(mask),
            "label": np.zeros(rows, np.int32),
            "group": np.zeros(rows, np.int32),
            "top_labels": np.zeros((rows, 2), np.int32),
            "top_scores": np.zeros((rows, 2), np.float32),
        }
        names = np.array([f"é{i}" for i in index])
        host = {"index": np.array(index), "mask": np.array(mask), "name": names, "usage": names}
        yield predictions.Loaded(jax.device_put(device), host)


def run(masks, indices, num_examples):
    batches = fake_batches(masks, indices)
    return predictions.predict_split(lambda p, s, batch: batch, {}, {}, batches, num_examples=num_examples).table


def test_every_example_counts_once():
    found = run([[True, True], [True, False]], [[2, 0], [1, 1]], 3)
    assert found["name"].to_pylist() == ["é0", "é1", "é2"]


@pytest.mark.parametrize(
    ("masks", "indices"),
    [([[True, True]], [[0, 1]]), ([[True, True], [True, True]], [[0, 1], [2, 2]]), ([[True, True, True]], [[0, 1, 3]])],
)
def test_a_missing_or_doubled_example_is_an_error(masks, indices):
    with pytest.raises(RuntimeError, match="must count each of 3 examples once"):
        run(masks, indices, 3)


def test_texts_cross_hosts_unharmed(monkeypatch):
    """The gather of one process: padding, encoding and decoding give the texts back."""
    local = {"index": np.array([3, 1]), "name": np.array(["ü.jpg", "b"]), "usage": np.array(["", "public"])}
    monkeypatch.setattr(
        predictions.multihost_utils,
        "process_allgather",
        lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf)[None], tree),
    )
    [host] = predictions.gather_hosts(local)
    for key in local:
        assert host[key].tolist() == local[key].tolist()


def test_logits_of_the_mean_give_the_mean_and_rank_what_float32_cannot():
    views = np.array([[[3.0, 1.0, -2.0]], [[0.0, 2.0, 1.0]]], np.float32)
    soft = np.exp(views) / np.exp(views).sum(axis=2, keepdims=True)
    found = np.asarray(predictions.logits_of_mean(list(views)))
    np.testing.assert_allclose(np.exp(found), soft.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(predictions.logits_of_mean([views[0]]), views[0])
    sure = np.array([[0.0, 500.0, 200.0, 300.0]], np.float32)
    labels, scores = predictions.top_classes(predictions.logits_of_mean([jax.numpy.asarray(sure)] * 2), 4)
    assert np.asarray(labels).tolist() == [[1, 3, 2, 0]]
    assert np.asarray(scores).tolist() == [[1, 0, 0, 0]]
