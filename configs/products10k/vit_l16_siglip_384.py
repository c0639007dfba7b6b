"""Rung 5: ViT-L/16 of SigLIP 2 at 384 pixels with the full recipe: each ingredient is one line below.

    python -m p10k_jax.train --config=configs/products10k/vit_l16_siglip_384.py --config.data.manual_dir=RAW --workdir=W

Parameters and moments are split over `fsdp` where the mesh has it (`--config.mesh.fsdp=8`), and
`--config.optimizer.accumulate=4` takes a batch in four parts, for less memory. At 448 pixels:
`--config.data.image_size=448`. A second stage: `second_stage.py`. Never run on Products-10K here; no figure is on
record.
"""

from ml_collections import ConfigDict

from configs import common
from configs.products10k import base


def get_config(arg: str | None = None) -> ConfigDict:
    """Takes no `arg`."""
    config = base.vit_config(
        arg, "vit_large_patch16_siglip_384.v2_webli", image_size=384, learning_rate=1e-4, layer_decay=0.8
    )
    config.model.options.drop_path = 0.2
    config.data.low_image_size = 256  # low resolution, then high
    config.data.low_until = common.duration(percent=70.0)
    config.head.name = "cosine"  # sub-centre ArcFace with more room for rare classes
    config.head.subcentres = 3
    config.loss.margin = "arcface"
    config.loss.margin_by_frequency = (0.5, 0.25, 0.05)
    config.loss.label_smoothing = 0.0  # a margin and smoothing pull against each other
    config.loss.group_weight = 0.2  # 360 groups beside the 9,691 classes
    config.loss.logit_adjustment = 1.0  # the test split has as many images of every class
    config.optimizer.head_first = common.duration(epochs=1.0)  # the new head first
    config.augment.erasing.probability = 0.1  # mild; mixup did not pay for the challenge's winner
    config.augment.plain_end = common.duration(percent=10.0)
    return config
