"""An ablation of the smallest run: one variant that trains, and one whose batch no 8 devices divide."""

from configs import vit
from p10k_jax.ablation.variants import apply, pick
from p10k_jax.config import parse_arg
from tests.runs import SETTINGS


def variants():
    return {"plain": {}, "odd": {"batch_size": 12}}


def get_config(arg=None):
    values = parse_arg(arg, variant="", steps=4)
    config = vit.get_config("variant=Ti/8")
    apply(config, {key: value for key, value in SETTINGS.items() if not key.startswith("duration")})
    apply(config, {"duration.steps": values["steps"], "ema_decay": 0.0})
    return pick(config, variants(), values["variant"])
