"""Which architecture: ViTs and ResNets at 224 pixels, from public weights or from chance.

python -m p10k_jax.ablate --config=configs/ablations/architecture.py:weights=hub --workdir=W
python -m p10k_jax.ablate --config=configs/ablations/architecture.py:weights=FOLDER --workdir=W
python -m p10k_jax.ablate --config=configs/ablations/architecture.py --workdir=W --config.duration.epochs=99

Asked: what a better trunk is worth, and what its weights are. `weights` is `hub` (each model's own, from the Hugging
Face hub), a FOLDER with `NAME.safetensors` of each (without a hub), or empty: from chance, at one rate for all layers,
with which small sets do not get far. ResNets keep configs/finetune.py's AdamW, so that only the trunk differs.
Products-10K has not been run.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import common, finetune
from p10k_jax.ablation.variants import pick
from p10k_jax.config import parse_arg

VITS = (
    "vit_small_patch14_dinov2.lvd142m",
    "vit_tiny_patch16_224.augreg_in21k",
    "vit_small_patch16_224.augreg_in21k",
    "vit_base_patch16_224.augreg_in21k",
    "vit_base_patch16_siglip_224.v2_webli",
    "vit_base_patch14_dinov2.lvd142m",
)
RESNETS = ("resnet18.a1_in1k", "resnet50.a1_in1k", "resnet101.a1_in1k", "resnetv2_50x1_bit.goog_in21k")


def variants(arg: str | None = None) -> dict[str, dict[str, Any]]:
    """By timm's name; the first is the base."""
    weights = _values(arg)["weights"]
    found = {}
    for name in VITS + RESNETS:
        resnet = name in RESNETS
        found[name] = {
            "model.name": name,
            # Options of the family: a ConfigDict takes the place of the group.
            "model.options": common.resnet_options() if resnet else common.vit_options(),
            "optimizer.no_decay": common.RESNET_NO_DECAY if resnet else common.VIT_NO_DECAY,
        }
        if weights:
            found[name]["model.weights"] = (
                f"hf_hub:timm/{name}" if weights == "hub" else f"{weights}/{name}.safetensors"
            )
    return found


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `variant=vit_small_patch14_dinov2.lvd142m,weights=hub`."""
    config = finetune.get_config()
    config.data.image_size = 224
    values = _values(arg)
    if not values["weights"]:
        config.optimizer.layer_decay = 1.0
    return pick(config, variants(arg), values["variant"])


def _values(arg: str | None) -> dict[str, Any]:
    return parse_arg(arg, variant="", weights="")
