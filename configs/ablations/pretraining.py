"""Which weights to start from, for one architecture.

python -m p10k_jax.ablate --config=configs/ablations/pretraining.py:sources=dino=A.safetensors+mine=W1 --workdir=W

Asked: what a start from public weights is worth over one from chance, and which of them suits. `sources` is
`NAME=SOURCE+NAME=SOURCE`, each SOURCE as in configs/finetune.py: a file, `hf_hub:timm/NAME`, the workdir of a run.
`model` is timm's name. A start from chance has one rate for all layers. Products-10K has not been run.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import finetune
from p10k_jax.ablation.variants import pick
from p10k_jax.config import parse_arg


def variants(arg: str | None = None) -> dict[str, dict[str, Any]]:
    """The first, from chance, is the base."""
    found: dict[str, dict[str, Any]] = {"chance": {"optimizer.layer_decay": 1.0}}
    for item in filter(None, _values(arg)["sources"].split("+")):
        name, equals, source = item.partition("=")
        if not (name and equals and source) or name in found:
            raise ValueError(f"sources: {item!r} is no NAME=SOURCE with a name of its own.")
        found[name] = {"model.weights": source}
    return found


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `variant=chance,model=vit_small_patch14_dinov2,sources=dino=A.safetensors+mine=W1`."""
    values = _values(arg)
    return pick(finetune.get_config(f"model={values['model']}"), variants(arg), values["variant"])


def _values(arg: str | None) -> dict[str, Any]:
    return parse_arg(arg, variant="", model="vit_small_patch14_dinov2", sources="")
