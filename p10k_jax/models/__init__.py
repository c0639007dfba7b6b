"""Models: ViT and ResNet as pure functions over plain dicts."""

from p10k_jax.models.functional import Model
from p10k_jax.models.heads import HeadSettings, Outputs
from p10k_jax.models.registry import create, known_names

__all__ = ["HeadSettings", "Model", "Outputs", "create", "known_names"]
