"""What all rungs share: the data, and fine-tuning of public weights. It names no model: it does not train by itself."""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """Takes no `arg`."""
    if arg:
        raise ValueError(f"configs/products10k takes no argument, got {arg!r}.")
    config = common.get_config()
    config.data.name = "products10k"
    config.data.config = "512"  # shorter side in pixels
    config.data.canvas_size = 512  # keeps the detail that small crops enlarge
    config.batch_size = 256
    config.duration = common.duration(epochs=20.0)
    config.eval.every = common.duration(epochs=1.0)
    config.checkpoint.every = common.duration(epochs=1.0)
    config.augment.jitter = (0.4, 0.4, 0.4)
    config.ema_decay = 0.999  # over about two epochs
    return config


def vit_config(
    arg: str | None, weights: str, *, image_size: int, learning_rate: float, layer_decay: float
) -> ConfigDict:
    """Fine-tuning of a ViT with AdamW and rates that fall from layer to layer.

    Args:
        arg: None; else the error of `get_config`.
        weights: timm's name of the weights on the Hugging Face hub, which is that of the architecture too.
        image_size: Pixels.
        learning_rate: For batches of 256.
        layer_decay: Rate of a layer over that of the next.
    """
    config = get_config(arg)
    config.model.name = weights
    config.model.weights = f"hf_hub:timm/{weights}"
    config.data.image_size = image_size
    with config.unlocked():
        config.model.options = common.vit_options(drop_path=0.1)
    config.optimizer.learning_rate = learning_rate
    config.optimizer.layer_decay = layer_decay
    config.optimizer.no_decay = common.VIT_NO_DECAY
    return config
