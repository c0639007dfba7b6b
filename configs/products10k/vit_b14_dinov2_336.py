"""Rung 3: ViT-B/14 of DINOv2 at 336 pixels: self-supervised weights know product identity better than labels do.

    python -m p10k_jax.train --config=configs/products10k/vit_b14_dinov2_336.py --config.data.manual_dir=RAW --workdir=W

Never run on Products-10K here; no figure is on record.
"""

from ml_collections import ConfigDict

from configs import common
from configs.products10k import base


def get_config(arg: str | None = None) -> ConfigDict:
    """Takes no `arg`."""
    config = base.vit_config(
        arg, "vit_base_patch14_reg4_dinov2.lvd142m", image_size=336, learning_rate=3e-4, layer_decay=0.75
    )
    config.data.low_image_size = 224  # most of the way at less than half the cost
    config.data.low_until = common.duration(percent=70.0)
    return config
