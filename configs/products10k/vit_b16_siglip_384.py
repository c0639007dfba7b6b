"""Rung 4: ViT-B/16 of SigLIP 2 at 384 pixels, with a head that learns first and logits adjusted for class frequencies.

    python -m p10k_jax.train --config=configs/products10k/vit_b16_siglip_384.py --config.data.manual_dir=RAW --workdir=W

Never run on Products-10K here; no figure is on record.
"""

from ml_collections import ConfigDict

from configs import common
from configs.products10k import base


def get_config(arg: str | None = None) -> ConfigDict:
    """Takes no `arg`."""
    config = base.vit_config(
        arg, "vit_base_patch16_siglip_384.v2_webli", image_size=384, learning_rate=2e-4, layer_decay=0.75
    )
    config.data.low_image_size = 256
    config.data.low_until = common.duration(percent=70.0)
    config.optimizer.head_first = common.duration(epochs=1.0)
    config.loss.logit_adjustment = 1.0  # the test split has as many images of every class
    return config
