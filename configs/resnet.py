"""ResNet from scratch.

    python -m p10k_jax.train --config=configs/resnet.py:depth=50 --config.data.name=sku_catalogue \
        --config.data.manual_dir=RAW --workdir=W

`depth` is 18, 34, 50, 101 or 152. SGD with Nesterov momentum at 0.1 (for batches of 256; it is not scaled with
batch_size), cosine, gradients clipped at norm 1, EMA.

Expected: `depth=18` at 128 pixels and a rate of 0.05, 12 epochs of 2,397 photos of 81 groceries: test top-1 0.34 after
11 minutes on 2 CPU cores (docs/figures.md has the command). Products-10K has not been run.
"""

from ml_collections import ConfigDict

from configs import common
from p10k_jax.config import parse_arg


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `depth=50`."""
    values = parse_arg(arg, depth=50)
    config = common.get_config()
    config.model.name = f"resnet-{values['depth']}"
    with config.unlocked():
        config.model.options = common.resnet_options()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 5e-5
    config.optimizer.no_decay = common.RESNET_NO_DECAY
    config.ema_decay = 0.999
    return config
