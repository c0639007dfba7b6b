"""BiT: its convolution against SciPy, and that it looks at each image alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.signal import correlate

from p10k_jax.models import HeadSettings, create
from p10k_jax.models.resnetv2 import StandardisedConv

SMALL = {"blocks": (1, 2), "widths": (128, 128), "stem_width": 32}


def model(**options):
    made = create("bit-50x1", num_classes=5, image_size=32, **SMALL | options)
    params, stats = jax.jit(made.init)(jax.random.key(0))
    assert not stats
    return made, params


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (7, 2), (1, 2)])
def test_convolution_with_a_standardised_kernel(size, stride):
    convolution = StandardisedConv(2, 3, size, stride, dtype=jnp.float32, rngs=nnx.Rngs(0))
    random = np.random.RandomState(0)
    kernel, image = random.randn(size, size, 2, 3) * 0.1 + 0.5, random.randn(9, 9, 2)
    convolution.kernel[...] = jnp.asarray(kernel, jnp.float32)
    kernel = (kernel - kernel.mean((0, 1, 2))) / np.sqrt(kernel.var((0, 1, 2)) + 1e-8)
    padded = np.pad(image, [(size // 2, size // 2)] * 2 + [(0, 0)])
    expected = np.stack([correlate(padded, kernel[..., c], mode="valid")[..., 0] for c in range(3)], axis=-1)
    made = convolution(jnp.asarray(image[None], jnp.float32))[0]
    np.testing.assert_allclose(made, expected[::stride, ::stride], rtol=1e-4, atol=1e-4)


def test_every_image_stands_alone():
    made, params = model()
    images = jnp.asarray(np.random.RandomState(0).randn(3, 32, 32, 3), jnp.float32)
    apply = jax.jit(made.apply, static_argnames="train")
    together = apply(params, {}, images)[0].embedding
    np.testing.assert_allclose(apply(params, {}, images[1:2])[0].embedding, together[1:2], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(apply(params, {}, images, train=True)[0].embedding, together)


def test_stochastic_depth_skips_whole_branches():
    made, params = model(drop_path=0.5)
    image = jnp.broadcast_to(jnp.asarray(np.random.RandomState(0).randn(32, 32, 3), jnp.float32), (32, 32, 32, 3))
    embedding = np.asarray(
        jax.jit(lambda p, x, k: made.apply(p, {}, x, train=True, key=k)[0].embedding)(params, image, jax.random.key(0))
    )
    # Blocks 2 and 3 of 3 are skipped with chances 1/4 and 1/2: four different results.
    assert len(np.unique(np.round(embedding[:, :8], 4), axis=0)) == 4
    with pytest.raises(ValueError, match="drop_path needs a key"):
        made.apply(params, {}, image, train=True)


def test_head_is_a_pointwise_convolutions_and_others_fit_too():
    _, params = model()
    assert params["head"]["fc"]["kernel"].shape == (1, 1, 128, 5)
    made, params = model(head=HeadSettings("cosine", embedding_size=7, bnneck=False))
    assert params["head"]["fc"]["kernel"].shape == (7, 5)
    outputs = jax.jit(made.apply)(params, {}, jnp.ones((2, 32, 32, 3)))[0]
    assert (outputs.logits.shape, outputs.embedding.shape) == ((2, 5), (2, 7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (128, 200)}, r"widths=\(128, 200\), stem_width=32 times 1: 32 groups want multiples of 128"),
        ({"widths": (128,)}, "are of different length"),
        ({"pool": "max"}, "pool='max' is unknown"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        create("bit-50x1", num_classes=5, image_size=32, **SMALL | options)
