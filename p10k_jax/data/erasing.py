"""Random erasing: a rectangle of a normalised image replaced by noise or zero."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

_MODES = ("pixel", "const")
_ATTEMPTS = 10


class Erasing(NamedTuple):
    """Random erasing (Zhong et al., arXiv 1708.04896) as timm does it, on the normalised image.

    Attributes:
        probability: Of a rectangle being erased; 0.0 is off.
        area: Least and largest share of the image, drawn uniformly.
        ratio: Least and largest height / width, drawn log-uniformly.
        mode: `pixel` fills in normal noise, a draw a pixel and channel; `const` fills in zero, the mean.
    """

    probability: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    mode: str = "pixel"

    def check(self) -> None:
        """Raises ValueError for a value out of range, or an unknown mode (the known ones are listed)."""
        if not 0 <= self.probability <= 1:
            raise ValueError(f"augment.erasing.probability={self.probability} must be a probability, 0..1.")
        if len(self.area) != 2 or not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"augment.erasing.area={self.area} must be two shares with 0 < least <= largest <= 1.")
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1] < float("inf"):
            raise ValueError(f"augment.erasing.ratio={self.ratio} must be two ratios with 0 < least <= largest.")
        if self.mode not in _MODES:
            raise ValueError(f"augment.erasing.mode={self.mode!r} is unknown; known: {', '.join(_MODES)}.")


def erase(key: PRNGKeyArray, image: Float[Array, "n n 3"], settings: Erasing) -> Float[Array, "n n 3"]:
    """The normalised image with a random rectangle erased, or as it is.

    The rectangle is the first of ten draws that is lower and narrower than the image; if none is, nothing is erased.
    """
    key_extent, key_place, key_noise = jax.random.split(key, 3)
    side = len(image)
    area, log_ratio = jax.random.uniform(key_extent, (2, _ATTEMPTS))
    area = side**2 * (settings.area[0] + area * (settings.area[1] - settings.area[0]))
    log_least, log_most = np.log(settings.ratio)
    ratio = jnp.exp(log_least + log_ratio * (log_most - log_least))
    extents = jnp.rint(jnp.sqrt(jnp.stack([area * ratio, area / ratio])))  # heights, widths
    fits = (extents < side).all(axis=0)
    extent = extents[:, jnp.argmax(fits)]
    *place, drawn = jax.random.uniform(key_place, (3,))
    start = jnp.floor(jnp.stack(place) * (side - extent + 1))
    row, column = ((start[i] <= jnp.arange(side)) & (jnp.arange(side) < start[i] + extent[i]) for i in (0, 1))
    erased = row[:, None] & column & fits.any() & (drawn < settings.probability)
    noise = jax.random.normal(key_noise, image.shape, image.dtype) if settings.mode == "pixel" else 0.0
    return jnp.where(erased[..., None], noise, image)
