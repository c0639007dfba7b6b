"""Optimizers by name, all optax's."""

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from p10k_jax.models.functional import Tree
from p10k_jax.models.layers import check_choice
from p10k_jax.training.layers import is_head, rate_factors
from p10k_jax.training.patterns import Rules, assign, check_patterns, table
from p10k_jax.training.schedules import Schedule


def _adamw(*, b1: float, b2: float, moment_dtype: str, **_) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=b1, b2=b2, mu_dtype=moment_dtype)


def _lion(*, b1: float, b2: float, moment_dtype: str, **_) -> optax.GradientTransformation:
    return optax.scale_by_lion(b1=b1, b2=b2, mu_dtype=moment_dtype)


def _adafactor(*, b1: float, moment_dtype: str, **_) -> optax.GradientTransformation:
    # As Zhai et al. (arXiv 2106.04560, section 3.4) use it: with momentum, and without scaling by the parameter's size.
    return optax.adafactor(-1.0, multiply_by_parameter_scale=False, momentum=b1, dtype_momentum=moment_dtype)


def _muon(*, b1: float, b2: float, momentum: float, moment_dtype: str, **_) -> optax.GradientTransformation:
    return optax.contrib.muon(
        -1.0,
        beta=momentum,
        adam_b1=b1,
        adam_b2=b2,
        mu_dtype=moment_dtype,
        muon_weight_dimension_numbers=_matrices,
        # As large as AdamW's usually are (Liu et al., section 2.2), so that a rate for AdamW suits both kinds.
        consistent_rms=0.2,
    )


def _matrices(params: Tree) -> Tree:
    """The axes along which kernels are matrices; None for the heads' and for all that are no kernels."""

    def dimension_numbers(path, leaf):
        names = [entry.key for entry in path]
        if names[-1] != "kernel" or leaf.ndim not in (2, 4) or names[0] in ("head", "fc", "group_head"):
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree.map_with_path(dimension_numbers, params)


def _momentum(*, momentum: float, moment_dtype: str, **_) -> optax.GradientTransformation:
    return optax.trace(decay=momentum, nesterov=True, accumulator_dtype=moment_dtype)


# The direction alone; decay and rate follow for all alike.
_DIRECTIONS = {
    "adamw": _adamw,
    "adafactor": _adafactor,
    "lamb": _adamw,
    "lion": _lion,
    "muon": _muon,
    "sgd": _momentum,
}
OPTIMIZERS = tuple(_DIRECTIONS)
MOMENT_DTYPES = ("float32", "bfloat16")


def _update_rule(
    name: str, schedule: Schedule, *, weight_decay: float, mask: Tree, **settings: float | str
) -> optax.GradientTransformation:
    direction = _DIRECTIONS[name](**settings)
    decay = optax.add_decayed_weights(weight_decay, mask=mask)
    rate = optax.scale_by_learning_rate(schedule)
    if name == "sgd":  # decay joins the gradient before the momentum, as in torch and in the ResNet papers
        return optax.chain(decay, direction, rate)
    if name == "lamb":
        return optax.chain(direction, decay, optax.scale_by_trust_ratio(), rate)
    return optax.chain(direction, decay, rate)


def make_optimizer(
    name: str,
    schedule: Schedule,
    params: Tree,
    *,
    weight_decay: float,
    no_decay: tuple[str, ...] = (),
    layer_decay: float = 1.0,
    rates: Rules = (),
    head_first_steps: int = 0,
    clip_norm: float = 0.0,
    b1: float = 0.9,
    b2: float | None = None,
    momentum: float = 0.9,
    moment_dtype: str = "float32",
) -> tuple[optax.GradientTransformation, str]:
    """The optimizer of that name, and the table of which parameter decays and how fast it learns.

    Args:
        name: `adamw` (Loshchilov & Hutter, arXiv 1711.05101), `lamb` (You et al., arXiv 1904.00962), `lion` (Chen et
            al., arXiv 2302.06675; wants about a third of AdamW's rate), `adafactor` (Shazeer & Stern, arXiv 1804.04235;
            factored second moments, with momentum), `sgd` (Nesterov), or `muon` (Jordan, 2024; Liu et al., arXiv
            2502.16982) for all kernels but the heads', a convolution's as a matrix from its window to its channels and
            a fused projection as one, with Nesterov's AdamW for all else. Decay is decoupled and times the rate, but
            for `sgd`.
        schedule: Step to learning rate.
        params: Arrays or shapes.
        weight_decay: Coefficient.
        no_decay: Patterns of parameters without decay; one that matches nothing is an error.
        layer_decay, rates: See `rate_factors`. What is frozen has no moments and does not count in the norm.
        head_first_steps: Steps in which neck and heads learn alone; over as many again all else comes in linearly
            (Kumar et al., arXiv 2202.10054). Moments are gathered from the start.
        clip_norm: Largest global gradient norm; 0 clips nothing.
        b1, b2: AdamW's, and of what derives from it; b2 is 0.999 unless given, and 0.99 for `lion`, as in its paper.
        momentum: SGD's and Muon's.
        moment_dtype: Of the first moment, or momentum: `float32`, or `bfloat16` for half of its memory, as Zhai et al.
            (arXiv 2106.04560, section 3.4) found to cost no accuracy.

    Raises:
        ValueError: an unknown name, a pattern that matches nothing, a factor out of range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"Unknown optimizer {name!r}. Known: {', '.join(OPTIMIZERS)}.")
    check_choice("optimizer.moment_dtype", moment_dtype, MOMENT_DTYPES)
    no_decay_rules: Rules = [(pattern, False) for pattern in no_decay]
    check_patterns(no_decay_rules, params, setting="optimizer.no_decay")
    mask = assign(no_decay_rules, params, True)
    if b2 is None:
        b2 = 0.99 if name == "lion" else 0.999
    factors = rate_factors(params, layer_decay=layer_decay, rates=rates)
    settings = {"b1": b1, "b2": b2, "momentum": momentum, "moment_dtype": moment_dtype}
    update = _update_rule(name, schedule, weight_decay=weight_decay, mask=mask, **settings)
    if clip_norm:
        update = optax.chain(optax.clip_by_global_norm(clip_norm), update)
    if any(jax.tree.leaves(frozen := frozen_parameters(params, rates))):
        update = optax.masked(update, jax.tree.map(lambda leaf: not leaf, frozen))
    if any(factor != 1 for factor in jax.tree.leaves(factors)):
        update = optax.chain(update, _scale_each(factors))
    if head_first_steps:
        update = optax.chain(update, _after_the_head(params, head_first_steps))
    decays = assign([(pattern, "no decay") for pattern in no_decay], params, f"decay {weight_decay}")
    return update, table(jax.tree.map(_description, factors, decays), params)


def frozen_parameters(params: Tree, rates: Rules) -> Tree:
    """For every parameter whether `rates` freezes it (BatchNorm's running statistics are never frozen)."""
    return jax.tree.map(lambda factor: factor == 0, assign(rates, params, 1.0))


def _scale_each(factors: Tree) -> optax.GradientTransformation:
    """Updates times fixed factors; the decay within them too, as torch's parameter groups have it."""

    def scale(updates, params=None):
        del params
        return jax.tree.map(
            lambda update, factor: update * factor if factor else jnp.zeros_like(update), updates, factors
        )

    return optax.stateless(scale)


def _after_the_head(params: Tree, steps: int) -> optax.GradientTransformation:
    trunk = jax.tree.map(lambda head: not head, is_head(params))
    return optax.masked(optax.scale_by_schedule(lambda count: jnp.clip((count - steps + 1) / steps, 0.0, 1.0)), trunk)


def _description(factor: float, decay: str) -> str:
    if factor == 0:
        return "frozen"
    return decay if factor == 1 else f"{decay}, rate x {factor:.3g}"
