"""Fine-tuning of public weights on Products-10K or on your own catalogue.

    python -m p10k_jax.train --config=configs/finetune.py:model=vit_small_patch14_dinov2 --config.model.weights=SOURCE \
        --config.data.name=sku_catalogue --config.data.manual_dir=RAW --workdir=W

`model` is timm's name of the architecture; SOURCE is a file, `hf_hub:timm/NAME`, or the workdir of a run
(docs/fine_tuning.md). AdamW at 3e-4 (for batches of 32), the rate falling by a quarter from each layer to the one
below, label smoothing, crop, flip and colour jitter. Channel statistics and image size are those of the weights.

Products-10K has not been run.
"""

from ml_collections import ConfigDict

from configs import common
from p10k_jax.config import parse_arg


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `model=vit_small_patch14_dinov2`."""
    values = parse_arg(arg, model="vit_small_patch14_dinov2")
    resnet = "resne" in values["model"] or values["model"].startswith("bit-")
    config = common.get_config()
    config.model.name = values["model"]
    with config.unlocked():
        config.model.options = common.resnet_options() if resnet else common.vit_options()
    config.batch_size = 32
    config.duration = common.duration(epochs=10.0)
    config.augment.jitter = (0.4, 0.4, 0.4)
    config.optimizer.learning_rate = 3e-4
    config.optimizer.layer_decay = 0.75
    config.optimizer.no_decay = common.RESNET_NO_DECAY if resnet else common.VIT_NO_DECAY
    return config
