"""What a model costs: nothing is computed here, shapes tell."""

import jax
import jax.numpy as jnp

from p10k_jax.models.functional import Model


def count_parameters(model: Model) -> int:
    """Number of parameters, BatchNorm's statistics not among them."""
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def forward_flops(model: Model, image_size: int) -> float | None:
    """Floating-point operations of the forward pass for one square image of that side; a multiply and an add are two.

    As XLA counts them in the program before it optimises, which it does for a CPU alone, whatever else is there; None
    where JAX was told to have no CPU (`JAX_PLATFORMS=cuda`; `cuda,cpu` has one).
    """
    try:
        (cpu, *_) = jax.local_devices(backend="cpu")
    except RuntimeError:
        return None
    params, batch_stats = jax.eval_shape(model.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    with jax.default_device(cpu):
        return float(jax.jit(model.apply).lower(params, batch_stats, image).cost_analysis()["flops"])


def training_flops(model: Model, image_size: int) -> float | None:
    """Operations that learning from one image takes: forward, and backward twice as many (Kaplan et al., arXiv
    2001.08361, section 2.1), as if every parameter learned. None as of `forward_flops`."""
    forward = forward_flops(model, image_size)
    return forward and 3 * forward
