"""Fine-tuning of public ViT weights on Products-10K or on your own catalogue.

    python -m p10k_jax.train --config=configs/finetune.py:model=vit_small_patch14_dinov2 --config.model.weights=FILE \
        --config.data.name=sku_catalogue --config.data.manual_dir=RAW --workdir=W

`model` is timm's name of the architecture, FILE is timm's state dict as `.safetensors`. AdamW at 3e-4 (for batches of
32), the rate falling by a quarter from each layer to the one below, label smoothing, crop, flip and colour jitter.
Weights with other channel statistics than ImageNet's (CLIP, SigLIP, the first ViTs) want `data.mean` and `data.std`.

Products-10K has not been run.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common
from p10k_jax.config import parse_arg


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `model=vit_small_patch14_dinov2`."""
    values = parse_arg(arg, model="vit_small_patch14_dinov2")
    config = common.get_config()
    config.model.name = values["model"]
    with config.unlocked():
        config.model.options = ConfigDict({"pool": placeholder(str), "drop_path": placeholder(float)})
    config.batch_size = 32
    config.duration = common.duration(epochs=10.0)
    config.augment.jitter = (0.4, 0.4, 0.4)
    config.optimizer.learning_rate = 3e-4
    config.optimizer.layer_decay = 0.75
    config.optimizer.no_decay = common.VIT_NO_DECAY
    return config
