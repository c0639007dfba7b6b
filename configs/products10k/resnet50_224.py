"""Rung 1: ResNet-50 at 224 pixels from ImageNet-1k weights, softmax, crop, flip and colour jitter.

    python -m p10k_jax.train --config=configs/products10k/resnet50_224.py --config.data.manual_dir=RAW --workdir=W

Expected: nothing is on record for exactly this on the official test split; the paper's best, with its tricks, is
64.12 %. Never run on Products-10K here.
"""

from ml_collections import ConfigDict

from configs import common
from configs.products10k import base


def get_config(arg: str | None = None) -> ConfigDict:
    """Takes no `arg`."""
    config = base.get_config(arg)
    config.model.name = "resnet50.a1_in1k"
    config.model.weights = "hf_hub:timm/resnet50.a1_in1k"
    config.data.image_size = 224
    with config.unlocked():
        config.model.options = common.resnet_options()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.02
    config.optimizer.weight_decay = 1e-4
    config.optimizer.no_decay = common.RESNET_NO_DECAY
    config.optimizer.rates = ((r"^fc\.", 10.0),)  # the classifier is new
    return config
