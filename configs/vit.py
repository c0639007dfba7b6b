"""ViT from scratch.

    python -m p10k_jax.train --config=configs/vit.py:variant=Ti/16 --config.data.name=sku_catalogue \
        --config.data.manual_dir=RAW --workdir=W

`variant` is a size (Ti, S, B, L, H, g, So400m) and a patch size in pixels. Muon at 1e-3 (not scaled with batch_size),
cosine, gradients clipped at norm 1, EMA. From scratch it learns much faster than `--config.optimizer.name=adamw` at the
same rate (docs/figures.md).

Expected: `variant=Ti/16` at 128 pixels, 25 epochs of 2,397 photos of 81 groceries: test top-1 0.57 after 19 minutes on
2 CPU cores. Products-10K has not been run.
"""

from ml_collections import ConfigDict

from configs import common
from p10k_jax.config import parse_arg


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `variant=S/16`."""
    values = parse_arg(arg, variant="S/16")
    config = common.get_config()
    with config.unlocked():
        config.model.name = f"vit-{values['variant']}"
        config.model.options = common.vit_options(pool="avg")
    config.optimizer.no_decay = common.VIT_NO_DECAY
    config.optimizer.name = "muon"
    config.optimizer.momentum = 0.95
    config.ema_decay = 0.999
    return config
