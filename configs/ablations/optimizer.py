"""Which rate, and how fast it falls from layer to layer: a grid.

python -m p10k_jax.ablate --config=configs/ablations/optimizer.py --workdir=W --config.model.weights=SOURCE

Asked: how far configs/finetune.py's rate and layer decay are from the best for your weights and data; hold every other
ablation at what is found here. Nine variants: choose on validation (`--split=validation`), then read test once. `model`
is timm's name, `name` the optimizer's (the grid is AdamW's). Products-10K has not been run.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import finetune
from p10k_jax.ablation.variants import grid, named, pick
from p10k_jax.config import parse_arg


def sweep() -> list[dict[str, Any]]:
    """The first is the base."""
    return grid(**{"optimizer.learning_rate": (3e-4, 1e-4, 1e-3), "optimizer.layer_decay": (0.75, 0.65, 1.0)})


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `variant=learning_rate=0.0003+layer_decay=0.75,model=vit_small_patch14_dinov2,name=adamw`."""
    values = parse_arg(arg, variant="", model="vit_small_patch14_dinov2", name="adamw")
    config = finetune.get_config(f"model={values['model']}")
    config.optimizer.name = values["name"]
    return pick(config, named(sweep()), values["variant"])
