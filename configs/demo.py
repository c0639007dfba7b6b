"""The demo: a small ViT learns to tell the products of a drawn catalogue apart, on a laptop's CPU.

python -m p10k_jax.train --config=configs/demo.py --workdir=work/demo
python -m p10k_jax.evaluate --workdir=work/demo --split=test

Expected: test top-1 0.93; 3 minutes on 2 CPU cores.
"""

from ml_collections import ConfigDict

from configs import common, vit


def get_config(arg: str | None = None) -> ConfigDict:
    """Takes no `arg`."""
    if arg:
        raise ValueError(f"configs/demo.py takes no argument, got {arg!r}.")
    config = vit.get_config("variant=Ti/8")
    config.data.name = "drawn_catalogue"
    config.data.config = "demo-holdout4of16"  # one picture a class would say little about 48 classes
    config.data.data_dir = "work/data"
    config.data.image_size = 64
    config.model.options.update({"width": 128, "depth": 6, "heads": 4})
    config.augment.crop_scale = (0.5, 1.0)  # a short run has no time for more variety
    config.loss.logit_adjustment = 1.0
    config.batch_size = 32
    config.duration = common.duration(epochs=9.0)
    config.optimizer.b2 = 0.98
    config.eval.every = common.duration(percent=10.0)
    config.ema_decay = 0.99
    return config
