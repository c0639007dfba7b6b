"""How to even out rare and frequent classes: by what is sampled, by the logits, or by weights.

python -m p10k_jax.ablate --config=configs/ablations/sampling.py --workdir=W --config.model.weights=SOURCE

Asked: which of them the rare classes gain by, and what the frequent ones pay (`few`, `medium`, `many` in the table).
`model` is timm's name. Products-10K has not been run.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import finetune
from p10k_jax.ablation.variants import pick
from p10k_jax.config import parse_arg


def variants() -> dict[str, dict[str, Any]]:
    """The first is the base."""
    return {
        "as_they_come": {},
        "class": {"sampling.name": "class"},
        "sqrt": {"sampling.name": "sqrt"},
        "group": {"sampling.name": "group"},
        "class_at_the_end": {"sampling.name": "class", "sampling.after.percent": 80.0},
        "logit_adjustment": {"loss.logit_adjustment": 1.0},
        "class_weights": {"loss.class_weight_power": 0.5},
    }


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `variant=class,model=vit_small_patch14_dinov2`."""
    values = parse_arg(arg, variant="", model="vit_small_patch14_dinov2")
    return pick(finetune.get_config(f"model={values['model']}"), variants(), values["variant"])
