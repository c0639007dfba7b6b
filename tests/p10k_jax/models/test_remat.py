import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.models import create
from p10k_jax.models.remat import REMATS

MODELS = {
    "vit": ("vit-Ti/8", {"width": 32, "depth": 2, "heads": 2, "drop_path": 0.5}),
    "eva": ("vit_small_patch16_dinov3", {"width": 32, "depth": 2, "heads": 2, "patch_size": 8}),
    "resnet": ("resnet-18", {"blocks": (1, 1, 1, 1), "widths": (8, 8, 16, 16)}),
    "bit": ("bit-50x1", {"blocks": (1, 1), "widths": (128, 128), "stem_width": 32}),
}


@functools.cache
def started(family):
    """Weights with a head that is not zero, pictures, and the model's maker."""
    name, options = MODELS[family]
    make = functools.partial(create, name, num_classes=5, image_size=32, **options)
    params, stats = make().init(jax.random.key(0))
    draw = np.random.RandomState(0).standard_normal
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.asarray(draw(leaf.shape), leaf.dtype), params)
    return make, params, stats, jnp.asarray(draw((4, 32, 32, 3)), jnp.float32)


def loss_of(model, stats, images):
    def loss(params):
        outputs, new = model.apply(params, stats, images, train=True, key=jax.random.key(1))
        return jnp.square(outputs.logits - 1).mean(), new

    return loss


@pytest.mark.parametrize("family", MODELS)
def test_gradients_and_batch_statistics_are_those_without_and_less_is_kept(family):
    make, params, stats, images = started(family)
    kept, results = [], []
    for remat in REMATS:
        loss = loss_of(make(remat=remat), stats, images)
        results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(params))
        residuals = jax.eval_shape(lambda params, loss=loss: jax.vjp(loss, params, has_aux=True)[1], params)
        kept.append(sum(leaf.size for leaf in jax.tree.leaves(residuals)))
    plain, *others = results
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), other, plain)
    nothing, elementwise, products, blocks = kept
    # Convolutions have no products but with weights.
    assert nothing > elementwise >= products > blocks > sum(leaf.size for leaf in jax.tree.leaves(params))
    assert (elementwise > products) == (family in ("vit", "eva"))


def test_an_unknown_one_says_so():
    with pytest.raises(ValueError, match="remat='all' is unknown; known: 'none', 'elementwise', 'products', 'blocks'"):
        create("vit-Ti/8", num_classes=5, image_size=32, remat="all")
