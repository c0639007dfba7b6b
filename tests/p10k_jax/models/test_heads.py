"""Heads and necks on both kinds of trunk, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.models import HeadSettings, create
from p10k_jax.models.heads import unit

TRUNKS = {
    "vit-Ti/8": ("head", {"width": 24, "depth": 1, "heads": 3}, 24),
    "resnet-18": ("fc", {"blocks": (1, 1, 1, 1)}, 512),
}
IMAGES = jnp.asarray(np.random.RandomState(0).randn(6, 16, 16, 3), jnp.float32)


def build(trunk, head, dtype=jnp.float32):
    """Outputs of training and of evaluation, with parameters that all say something."""
    path, options, _ = TRUNKS[trunk]
    model = create(trunk, num_classes=5, image_size=16, head=head, dtype=dtype, **options)
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 500))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), params)
    apply = jax.jit(model.apply, static_argnames="train")
    trained, batch_stats = apply(params, batch_stats, IMAGES, train=True)
    return params, params[path], trained, apply(params, batch_stats, IMAGES)[0], batch_stats


@pytest.mark.parametrize("trunk", TRUNKS)
def test_cosine_head_gives_scaled_cosines_of_the_nearest_subcentre(trunk):
    _, head, _, outputs, _ = build(trunk, HeadSettings("cosine", subcentres=3, scale=20.0))
    embedding, kernel = np.asarray(outputs.embedding, np.float64), np.asarray(head["kernel"], np.float64)
    assert embedding.shape == (6, TRUNKS[trunk][2])
    cosines = (embedding / np.linalg.norm(embedding, axis=1, keepdims=True)) @ (kernel / np.linalg.norm(kernel, axis=0))
    expected = 20 * np.stack([cosines[:, 3 * c : 3 * c + 3].max(1) for c in range(5)], axis=1)
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_neck_projects_and_normalises(trunk):
    params, head, trained, outputs, stats = build(trunk, HeadSettings(embedding_size=7, bnneck=True, num_groups=4))
    assert outputs.embedding.shape == (6, 7)
    before = (np.asarray(trained.embedding) / np.asarray(params["neck"]["norm"]["scale"])).astype(np.float64)
    np.testing.assert_allclose(before.mean(0), 0, atol=1e-4)
    assert stats["neck"]["norm"]["mean"].shape == (7,)
    assert not np.allclose(trained.embedding, outputs.embedding), "evaluation takes the remembered statistics"
    for made, name in ((outputs.logits, "head"), (outputs.group_logits, "group_head")):
        part = head if name == "head" else params[name]
        expected = np.asarray(outputs.embedding) @ np.asarray(part["kernel"]) + np.asarray(part["bias"])
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)
    assert outputs.group_logits.shape == (6, 4)


def test_outputs_are_float32_on_a_bfloat16_trunk():
    _, _, trained, outputs, _ = build(
        "vit-Ti/8", HeadSettings("cosine", embedding_size=8, bnneck=True, num_groups=2), jnp.bfloat16
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((trained, outputs))} == {jnp.dtype("float32")}


def test_without_classes_the_embedding_is_given():
    model = create("vit-Ti/8", num_classes=0, image_size=16, **TRUNKS["vit-Ti/8"][1])
    params, _ = jax.jit(model.init)(jax.random.key(0))
    outputs, _ = model.apply(params, {}, IMAGES)
    np.testing.assert_array_equal(outputs.logits, outputs.embedding)
    assert "head" not in params


def test_unit_vectors_survive_zero():
    vectors = jnp.asarray([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(unit(vectors), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert bool(jnp.isfinite(jax.grad(lambda v: unit(v).sum())(vectors)).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "proxy"}, r"head\.name='proxy' is unknown; known: linear, cosine"),
        ({"subcentres": 2}, r"subcentres=2 is for head\.name='cosine'"),
        ({"name": "cosine", "scale": 0.0}, "scale above 0"),
        ({"name": "cosine", "bias_start": -9.0}, r"a cosine head has no bias"),
        ({"embedding_size": -1}, "at least 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        create("resnet-18", num_classes=5, image_size=16, head=HeadSettings(**settings))


@pytest.mark.parametrize(
    ("trunk", "options", "head"),
    [
        ("vit-Ti/8", {}, HeadSettings()),
        ("vit-Ti/8", {"pool": "gem"}, HeadSettings("cosine")),
        ("vit-Ti/8", {"pool": "map"}, HeadSettings(embedding_size=7, bnneck=True, num_groups=3)),
        ("resnet-18", {"pool": "gem"}, HeadSettings("cosine", embedding_size=7, bnneck=True, subcentres=3)),
        ("bit-50x1", {}, HeadSettings(embedding_size=7)),
        ("vit-Ti/8", {"num_classes": 0}, HeadSettings(embedding_size=7)),
    ],
)
def test_classify_gives_the_logits_of_the_embeddings(trunk, options, head):
    small = TRUNKS[trunk][1] if trunk in TRUNKS else {"blocks": (1, 1, 1, 1)}
    model = create(trunk, **({"num_classes": 5, "image_size": 16, "head": head} | small | options))
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 500))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), params)
    outputs, _ = jax.jit(model.apply)(params, batch_stats, IMAGES)
    assert float(jnp.std(outputs.logits)) > 0
    np.testing.assert_allclose(jax.jit(model.classify)(params, outputs.embedding), outputs.logits, rtol=1e-5, atol=1e-5)
