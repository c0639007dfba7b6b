"""Mixup and CutMix: every row mixed with its neighbour."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray


def mix(
    key: PRNGKeyArray,
    images: Float[Array, "b n n 3"],
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    probability: float = 1.0,
    switch: float = 0.5,
) -> tuple[Float[Array, "b n n 3"], Int[Array, " b"], Float[Array, " b"]]:
    """Mixup (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899), drawn a row.

    The partner of row i is row i^1, and an odd last row keeps itself. Rows hold random examples, so neighbours are as
    good as any others, and the exchange never leaves a device that holds an even number of rows.

    Args:
        key: One for the batch, folded with the row's number; or one a row, of shape (b,), for a part of a batch.
        images: Normalised.
        mixup_alpha: Of the Beta that a row's weight in mixup is drawn from; 0.0 is no mixup.
        cutmix_alpha: Of the Beta whose draw is the share of the row that CutMix keeps; 0.0 is no CutMix.
        probability: Of a row being mixed.
        switch: Probability of CutMix, where both are on.

    Returns:
        The mixed images, `partners int32[b]` and `weights float32[b]`. The loss of row i is
        `weights[i] * L(labels[i]) + (1 - weights[i]) * L(labels[partners[i]])`; for CutMix the weight is the share of
        its pixels that the row has kept.

    Raises:
        ValueError: an alpha below 0, or a probability outside 0..1.
    """
    _check(mixup_alpha, cutmix_alpha, probability, switch)
    number = len(images)
    paired = number // 2 * 2
    rows = jnp.arange(number, dtype=jnp.int32)
    partners = jnp.where(rows < paired, rows ^ 1, rows)
    if probability == 0 or (mixup_alpha == 0 and cutmix_alpha == 0):
        return images, partners, jnp.ones(number)
    if not mixup_alpha or not cutmix_alpha:
        switch = float(cutmix_alpha > 0)
    # A reversal within pairs: a gather by `partners` would be one over all devices.
    swapped = images[:paired].reshape(-1, 2, *images.shape[1:])[:, ::-1].reshape(paired, *images.shape[1:])
    others = jnp.concatenate([swapped, images[paired:]])
    keys = key if key.ndim else jax.random.split(key, number)
    settings = {"alphas": (mixup_alpha, cutmix_alpha), "probability": probability, "switch": switch}
    mixed, weights = jax.vmap(functools.partial(_mix_row, **settings))(keys, partners != rows, images, others)
    return mixed, partners, weights


def _check(mixup_alpha: float, cutmix_alpha: float, probability: float, switch: float) -> None:
    for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"augment.mix.{name}={alpha} must be a number of at least 0.0 (off).")
    for name, value in (("probability", probability), ("switch", switch)):
        if not 0 <= value <= 1:
            raise ValueError(f"augment.mix.{name}={value} must be a probability, 0..1.")


def _mix_row(
    key: PRNGKeyArray,
    has_partner: Bool[Array, ""],
    image: Float[Array, "n n 3"],
    other: Float[Array, "n n 3"],
    *,
    alphas: tuple[float, float],
    probability: float,
    switch: float,
) -> tuple[Float[Array, "n n 3"], Float[Array, ""]]:
    key_drawn, key_kept = jax.random.split(key)
    mixed, switched, *centre = jax.random.uniform(key_drawn, (4,))
    is_mixed, is_cut = (mixed < probability) & has_partner, switched < switch
    kept = jax.nn.softmax(jax.random.loggamma(key_kept, jnp.where(is_cut, alphas[1], alphas[0]), (2,)))[0]  # a Beta
    pasted, area = _rectangle(jnp.stack(centre), kept, len(image))
    share = jnp.where(is_mixed & ~is_cut, kept, 1.0)
    result = jnp.where(is_mixed & is_cut & pasted, other, share * image + (1.0 - share) * other)
    return result.astype(image.dtype), jnp.where(is_mixed & is_cut, 1.0 - area / len(image) ** 2, share)


def _rectangle(
    centre: Float[Array, "2"], kept: Float[Array, ""], side: int
) -> tuple[Bool[Array, "n n 1"], Float[Array, ""]]:
    """A square of 1 - `kept` of the image about the centre (0..1), clipped to the image: its mask, and its pixels."""
    centre, extent = jnp.floor(centre * side), jnp.floor(side * jnp.sqrt(1.0 - kept))
    start = jnp.maximum(centre - extent // 2, 0)
    end = jnp.minimum(centre + (extent + 1) // 2, side)
    row, column = ((start[i] <= jnp.arange(side)) & (jnp.arange(side) < end[i]) for i in (0, 1))
    return (row[:, None] & column)[..., None], (end - start).prod()
