"""RandAugment and AugMix: which operations a picture goes through, drawn from its key."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from p10k_jax.data.image_ops import BLENDS, MAX_MAGNITUDE, TABLES, WARPS, Image, apply_operation

RANDAUGMENT_OPERATIONS = TABLES + BLENDS + WARPS
# As in the paper: none that is a corruption in ImageNet-C.
AUGMIX_OPERATIONS = ("autocontrast", "equalize", "posterize", "solarize", *WARPS)


class RandAugment(NamedTuple):
    """RandAugment (Cubuk et al., arXiv 1909.13719) with timm's "increasing" operations, `rand-m9-mstd0.5-inc1`.

    Attributes:
        num_ops: Operations a picture, drawn with replacement; 0 is off.
        magnitude: 0..10.
        magnitude_std: Of the normal noise on the magnitude, which then is clipped to 0..10.
        probability: Of each operation being applied.
    """

    num_ops: int = 2
    magnitude: float = 9.0
    magnitude_std: float = 0.5
    probability: float = 0.5

    def check(self) -> None:
        """Raises ValueError for a value out of range."""
        if not isinstance(self.num_ops, int) or self.num_ops < 0:
            raise ValueError(f"augment.randaugment.num_ops={self.num_ops} must be a whole number, 0 (off) or more.")
        _check_magnitude("randaugment", self.magnitude)
        if not 0 <= self.magnitude_std < float("inf"):
            raise ValueError(f"augment.randaugment.magnitude_std={self.magnitude_std} must be a number of at least 0.")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"augment.randaugment.probability={self.probability} must be a probability, 0..1.")


class AugMix(NamedTuple):
    """AugMix (Hendrycks et al., arXiv 1912.02781), the picture alone: no consistency loss.

    Attributes:
        width: Chains of operations that are mixed; 0 is off.
        depth: Least and largest number of operations in a chain, drawn with replacement.
        magnitude: 0..10, the largest; that of each operation is drawn uniformly from 0 on.
        alpha: Of the Dirichlet that weighs the chains, and of the Beta that weighs them against the picture.
    """

    width: int = 3
    depth: tuple[int, int] = (1, 3)
    magnitude: float = 3.0
    alpha: float = 1.0

    def check(self) -> None:
        """Raises ValueError for a value out of range."""
        if not isinstance(self.width, int) or self.width < 0:
            raise ValueError(f"augment.augmix.width={self.width} must be a whole number, 0 (off) or more.")
        whole = all(isinstance(depth, int) for depth in self.depth)
        if not whole or len(self.depth) != 2 or not 1 <= self.depth[0] <= self.depth[1]:
            raise ValueError(f"augment.augmix.depth={self.depth} must be two whole numbers, 1 <= least <= largest.")
        _check_magnitude("augmix", self.magnitude)
        if not 0 < self.alpha < float("inf"):
            raise ValueError(f"augment.augmix.alpha={self.alpha} must be above 0.")


def _check_magnitude(policy: str, magnitude: float) -> None:
    if not 0 <= magnitude <= MAX_MAGNITUDE:
        raise ValueError(f"augment.{policy}.magnitude={magnitude} is outside 0..10.")


class Operations(NamedTuple):
    """Operations as `image_ops.apply_operation` takes them; `chosen` is -1 for one that is left out."""

    chosen: Int[Array, "*k"]
    magnitudes: Float[Array, "*k"]
    signs: Float[Array, "*k"]


def apply_randaugment(key: PRNGKeyArray, image: Image, settings: RandAugment, *, fill: Float[Array, "3"]) -> Image:
    """The picture (0..255) after drawn operations; warps draw in `fill`, and translate by up to 0.45 of the side."""
    drawn = draw_randaugment(key, settings)
    return _apply(drawn, image, RANDAUGMENT_OPERATIONS, fill=fill, max_translation=0.45)


def draw_randaugment(key: PRNGKeyArray, settings: RandAugment) -> Operations:
    """Which of `RANDAUGMENT_OPERATIONS` a picture goes through."""
    key_drawn, key_magnitude = jax.random.split(key)
    noise = settings.magnitude_std * jax.random.normal(key_magnitude, (settings.num_ops,))
    magnitudes = jnp.clip(settings.magnitude + noise, 0.0, MAX_MAGNITUDE)
    choice, sign, applied = jax.random.uniform(key_drawn, (3, settings.num_ops))
    return _operations(len(RANDAUGMENT_OPERATIONS), choice, magnitudes, sign, applied < settings.probability)


def apply_augmix(key: PRNGKeyArray, image: Image, settings: AugMix, *, fill: Float[Array, "3"]) -> Image:
    """The picture (0..255) mixed with chains of operations on it; warps draw in `fill`, and translate by up to 1/3."""
    share, weights, chains = draw_augmix(key, settings)

    def add(mixture, drawn):
        weight, operations = drawn
        changed = _apply(operations, image, AUGMIX_OPERATIONS, fill=fill, max_translation=1 / 3)
        return mixture + weight * changed, None

    mixture, _ = jax.lax.scan(add, jnp.zeros_like(image), (weights, chains))
    return jnp.clip(image + share * (mixture - image), 0.0, 255.0)


def draw_augmix(key: PRNGKeyArray, settings: AugMix) -> tuple[Float[Array, ""], Float[Array, " width"], Operations]:
    """How much of the mixture a picture gets, the weights of the chains in it, and their operations [width, depth]."""
    key_weights, key_depths, key_operations = jax.random.split(key, 3)
    width, (least, longest) = settings.width, settings.depth
    # A Dirichlet is gammas over their sum, and a Beta one of two.
    gammas = jax.random.loggamma(key_weights, float(settings.alpha), (width + 2,))
    depths = least + jnp.floor(jax.random.uniform(key_depths, (width, 1)) * (longest + 1 - least))
    choice, magnitude, sign = jax.random.uniform(key_operations, (3, width, longest))
    applied = jnp.arange(longest) < depths
    operations = _operations(len(AUGMIX_OPERATIONS), choice, magnitude * settings.magnitude, sign, applied)
    return jax.nn.softmax(gammas[width:])[0], jax.nn.softmax(gammas[:width]), operations


def _operations(
    number: int,
    choice: Float[Array, "*k"],
    magnitudes: Float[Array, "*k"],
    sign: Float[Array, "*k"],
    applied: Bool[Array, "*k"],
) -> Operations:
    """One of `number` operations, and a sign, by draws from 0..1."""
    chosen = jnp.floor(choice * number).astype(jnp.int32)
    return Operations(jnp.where(applied, chosen, -1), magnitudes, jnp.where(sign < 0.5, -1.0, 1.0))


def _apply(
    operations: Operations,
    image: Image,
    names: tuple[str, ...],
    *,
    fill: Float[Array, "3"],
    max_translation: float,
) -> Image:
    def step(image, operation):
        return apply_operation(image, names, *operation, fill=fill, max_translation=max_translation), None

    # A loop: the operations are compiled once.
    return jax.lax.scan(step, image, operations)[0]
