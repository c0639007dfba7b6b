"""Rung 2: ViT-S/16 at 224 pixels from AugReg's ImageNet-21k weights: about the cost of rung 1.

    python -m p10k_jax.train --config=configs/products10k/vit_s16_224.py --config.data.manual_dir=RAW --workdir=W

Never run on Products-10K here; no figure is on record.
"""

from ml_collections import ConfigDict

from configs.products10k import base


def get_config(arg: str | None = None) -> ConfigDict:
    """Takes no `arg`."""
    return base.vit_config(
        arg, "vit_small_patch16_224.augreg_in21k", image_size=224, learning_rate=5e-4, layer_decay=0.75
    )
