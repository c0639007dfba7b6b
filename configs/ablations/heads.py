"""Which head and margin: a linear classifier, one behind a BatchNorm neck, and cosine heads with and without margins.

python -m p10k_jax.ablate --config=configs/ablations/heads.py --workdir=W --config.model.weights=SOURCE

Asked: whether a margin that pays in face recognition pays among look-alike products, where the classifier itself is
what is used and not the embedding. `model` is timm's name, as in configs/finetune.py. Products-10K has not been run.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import finetune
from p10k_jax.ablation.variants import pick
from p10k_jax.config import parse_arg


def variants() -> dict[str, dict[str, Any]]:
    """The first is the base."""
    cosine = {"head.name": "cosine"}
    arcface = cosine | {"loss.margin": "arcface"}
    return {
        "linear": {},
        "bnneck": {"head.bnneck": True},
        "cosine": cosine,
        "arcface": arcface,
        "cosface": cosine | {"loss.margin": "cosface"},
        "subcentre_arcface": arcface | {"head.subcentres": 3},
    }


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `variant=linear,model=vit_small_patch14_dinov2`."""
    values = parse_arg(arg, variant="", model="vit_small_patch14_dinov2")
    return pick(finetune.get_config(f"model={values['model']}"), variants(), values["variant"])
