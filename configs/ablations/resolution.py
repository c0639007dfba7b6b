"""Which resolution: 112 to 448 pixels, a low one first, and a higher one in evaluation than in training.

python -m p10k_jax.ablate --config=configs/ablations/resolution.py --workdir=W --config.model.weights=SOURCE

Asked: what small print on a package is worth in pixels, and which of it a cheaper schedule keeps. All sizes divide by
14 and by 16, so any ViT will do; all read from the same canvas of 512 pixels, so store pictures at 512 or more
(`--config.data.config=512`). `model` is timm's name. Products-10K has not been run.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import finetune
from p10k_jax.ablation.variants import pick
from p10k_jax.config import parse_arg


def variants() -> dict[str, dict[str, Any]]:
    """The first is the base."""
    return {
        "224": {},
        "112": {"data.image_size": 112},
        "336": {"data.image_size": 336},
        "448": {"data.image_size": 448},
        "112_then_224": {"data.low_image_size": 112},  # for 70 % of the run
        "224_evaluated_at_336": {"eval.image_size": 336, "eval.crop": 1.0},  # Touvron et al., arXiv 1906.06423
    }


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `variant=224,model=vit_small_patch14_dinov2`."""
    values = parse_arg(arg, variant="", model="vit_small_patch14_dinov2")
    config = finetune.get_config(f"model={values['model']}")
    config.data.image_size = 224
    config.data.canvas_size = 512
    return pick(config, variants(), values["variant"])
