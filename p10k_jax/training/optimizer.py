"""Optimizers and schedules by name, all optax's."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float

from p10k_jax.models.functional import Tree
from p10k_jax.training.patterns import Rules, assign, check_patterns, path_name, table

Schedule = Callable[[Array | int], Float[Array, ""]]


def warmup_cosine(*, peak: float, warmup_steps: int, total_steps: int, end: float = 0.0) -> Schedule:
    """Linear from 0 to `peak` over `warmup_steps`, then half a cosine to `end` at `total_steps`.

    The first step already moves (it takes peak / warmup_steps).

    Raises:
        ValueError: a warm-up as long as the run or longer, or a rate that is not positive.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"schedule.warmup is {warmup_steps} steps of {total_steps}: it must be shorter than the run.")
    if not peak > 0:
        raise ValueError(f"optimizer.learning_rate={peak} must be positive.")

    def rate(step):
        step = jnp.asarray(step, jnp.float32)
        progress = jnp.clip((step - warmup_steps) / (total_steps - warmup_steps), 0.0, 1.0)
        cosine = end + (peak - end) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        return jnp.where(step < warmup_steps, peak * (step + 1) / max(1, warmup_steps), cosine)

    return rate


def _adamw(schedule: Schedule, *, weight_decay: float, mask: Tree, b1: float, b2: float, momentum: float):
    del momentum
    return optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=mask)


def _sgd(schedule: Schedule, *, weight_decay: float, mask: Tree, b1: float, b2: float, momentum: float):
    del b1, b2
    # Decay joins the gradient before the momentum, as in torch and in the ResNet papers.
    decay = optax.add_decayed_weights(weight_decay, mask=mask)
    return optax.chain(decay, optax.sgd(schedule, momentum=momentum, nesterov=True))


def _muon(schedule: Schedule, *, weight_decay: float, mask: Tree, b1: float, b2: float, momentum: float):
    direction = optax.contrib.muon(
        -1.0,  # the direction alone; decay and rate follow for all parameters alike
        beta=momentum,
        adam_b1=b1,
        adam_b2=b2,
        muon_weight_dimension_numbers=_matrices,
        # As large as AdamW's usually are (Liu et al., section 2.2), so that a rate for AdamW suits both kinds.
        consistent_rms=0.2,
    )
    decay = optax.add_decayed_weights(weight_decay, mask=mask)
    return optax.chain(direction, decay, optax.scale_by_learning_rate(schedule))


def _matrices(params: Tree) -> Tree:
    """The axes along which kernels are matrices; None for the head's and for all that are no kernels."""

    def dimension_numbers(path, leaf):
        names = [entry.key for entry in path]
        if names[-1] != "kernel" or leaf.ndim not in (2, 4) or names[0] in ("head", "fc"):
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree.map_with_path(dimension_numbers, params)


OPTIMIZERS = {"adamw": _adamw, "muon": _muon, "sgd": _sgd}


def make_optimizer(
    name: str,
    schedule: Schedule,
    params: Tree,
    *,
    weight_decay: float,
    no_decay: tuple[str, ...] = (),
    layer_decay: float = 1.0,
    rates: Rules = (),
    clip_norm: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    momentum: float = 0.9,
) -> tuple[optax.GradientTransformation, str]:
    """The optimizer of that name, and the table of which parameter decays.

    Args:
        name: `adamw` (Loshchilov & Hutter, arXiv 1711.05101; decoupled decay times the rate), `sgd` (Nesterov), or
            `muon` (Jordan, 2024; Liu et al., arXiv 2502.16982) for all kernels but the head's, a convolution's as a
            matrix from its window to its channels and a fused projection as one, with Nesterov's AdamW for all else.
        schedule: Step to learning rate.
        params: Arrays or shapes.
        weight_decay: Coefficient.
        no_decay: Patterns of parameters without decay; one that matches nothing is an error.
        layer_decay: In (0, 1]: the rate of every layer is that of the next one times this (Clark et al., arXiv
            2003.10555; Bao et al., arXiv 2106.08254); the head has the full one. See `layer_numbers`.
        rates: (pattern, factor) pairs on top, the first that matches counts; 0 freezes (but not
            BatchNorm's running statistics).
        clip_norm: Largest global gradient norm; 0 clips nothing.
        b1, b2: AdamW's. momentum: SGD's and Muon's.

    Raises:
        ValueError: an unknown name, a pattern that matches nothing, a factor out of range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"Unknown optimizer {name!r}. Known: {', '.join(OPTIMIZERS)}.")
    if not 0 < layer_decay <= 1:
        raise ValueError(f"optimizer.layer_decay={layer_decay} is outside (0, 1].")
    for rule in rates:
        if not (
            isinstance(rule, tuple | list) and len(rule) == 2 and isinstance(rule[1], int | float) and rule[1] >= 0
        ):
            raise ValueError(f"optimizer.rates: {rule!r} is no pair of a pattern and a factor of at least 0.")
    rules: Rules = [(pattern, False) for pattern in no_decay]
    check_patterns(rules, params, setting="optimizer.no_decay")
    check_patterns(rates, params, setting="optimizer.rates")
    mask = assign(rules, params, True)
    update = OPTIMIZERS[name](schedule, weight_decay=weight_decay, mask=mask, b1=b1, b2=b2, momentum=momentum)
    factors = _rate_factors(params, layer_decay, rates)
    if clip_norm:
        update = optax.chain(optax.clip_by_global_norm(clip_norm), update)
    if not all(jax.tree.leaves(factors)):  # what is frozen does not count in the norm either
        update = optax.chain(_scale_each(jax.tree.map(lambda factor: float(factor > 0), factors)), update)
    if any(factor != 1 for factor in jax.tree.leaves(factors)):
        update = optax.chain(update, _scale_each(factors))
    decays = assign([(pattern, "no decay") for pattern in no_decay], params, f"decay {weight_decay}")
    return update, table(jax.tree.map(_description, factors, decays), params)


def layer_numbers(params: Tree) -> tuple[Tree, int]:
    """For every parameter the number of its layer, and the number of layers, as timm counts them.

    0 is everything before the first block; every block is one layer; a ViT's `norm` and `norm_pre` belong to the last
    block; pooling, `fc_norm` and head are the last layer.
    """
    names = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
    blocks = sorted({block for name in names if (block := _block(name))})
    last = len(blocks) + 1

    def number(name: str) -> int:
        if block := _block(name):
            return blocks.index(block) + 1
        if name.startswith("norm"):
            return last - 1
        return last if name.split(".")[0] in _AFTER_THE_BLOCKS else 0

    return jax.tree.unflatten(jax.tree.structure(params), [number(name) for name in names]), last + 1


def _block(name: str) -> tuple[int, ...]:
    """`blocks.3.attn...` -> (3,), `layer2.0.conv1...` -> (2, 0), anything else -> ()."""
    match = re.match(r"(?:blocks\.|layer)(\d+)\.(?:(\d+)\.)?", name)
    return tuple(int(group) for group in match.groups() if group) if match else ()


_AFTER_THE_BLOCKS = ("fc_norm", "attn_pool", "gem_pool", "head", "fc")


def _rate_factors(params: Tree, layer_decay: float, rates: Rules) -> Tree:
    numbers, layers = layer_numbers(params)
    factors = assign(rates, params, 1.0)
    return jax.tree.map(lambda number, factor: factor * layer_decay ** (layers - 1 - number), numbers, factors)


def _scale_each(factors: Tree) -> optax.GradientTransformation:
    """Updates times fixed factors; the decay within them too, as torch's parameter groups have it."""

    def scale(updates, params=None):
        del params
        return jax.tree.map(lambda update, factor: update * factor, updates, factors)

    return optax.stateless(scale)


def _description(factor: float, decay: str) -> str:
    if factor == 0:
        return "frozen"
    return decay if factor == 1 else f"{decay}, rate x {factor:.3g}"
