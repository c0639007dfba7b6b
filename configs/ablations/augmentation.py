"""Which augmentation: more and less than crop, flip and colour jitter.

python -m p10k_jax.ablate --config=configs/ablations/augmentation.py --workdir=W --config.model.weights=SOURCE

Asked: what helps where colour and lettering tell products apart, so that what helps on ImageNet may harm. `model` is
timm's name. Products-10K has not been run.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import finetune
from p10k_jax.ablation.variants import pick
from p10k_jax.config import parse_arg


def variants() -> dict[str, dict[str, Any]]:
    """The first is the base."""
    randaugment = {"augment.randaugment.num_ops": 2}
    mixup, cutmix = {"augment.mix.mixup_alpha": 0.2}, {"augment.mix.cutmix_alpha": 1.0}
    erasing = {"augment.erasing.probability": 0.25}
    strong = randaugment | erasing | mixup | cutmix
    return {
        "jitter": {},
        "crop_and_flip": {"augment.jitter": (0.0, 0.0, 0.0)},
        "no_flip": {"augment.flip": 0.0},  # lettering has one reading
        "tight_crops": {"augment.crop_scale": (0.08, 1.0)},
        "wide_crops": {"augment.crop_scale": (0.5, 1.0)},
        "grey": {"augment.grey": 0.2},
        "randaugment": randaugment,
        "augmix": {"augment.augmix.width": 3},
        "erasing": erasing,
        "mixup": mixup,
        "cutmix": cutmix,
        "strong": strong,
        "strong_then_plain": strong | {"augment.plain_end.percent": 10.0},
    }


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `variant=jitter,model=vit_small_patch14_dinov2`."""
    values = parse_arg(arg, variant="", model="vit_small_patch14_dinov2")
    return pick(finetune.get_config(f"model={values['model']}"), variants(), values["variant"])
