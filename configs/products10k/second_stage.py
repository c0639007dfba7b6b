"""A second, class-balanced stage from a finished run: the trunk is frozen, the classifier made anew (cRT; Kang et al.,
arXiv 1910.09217).

    python -m p10k_jax.train --config=configs/products10k/second_stage.py:of=W --workdir=W2

Model, head, preprocessing and data are those of the run; loss, augmentation and averaging are plain. Never run on
Products-10K here.
"""

from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common
from p10k_jax.config import parse_arg, read_workdir


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `of=W`, the workdir of the finished run."""
    of = parse_arg(arg, of="")["of"]
    if not of:
        raise ValueError("configs/products10k/second_stage.py needs the finished run: second_stage.py:of=WORKDIR.")
    first = read_workdir(Path(of).expanduser())
    config = common.get_config()
    with config.unlocked():
        config.model.options = ConfigDict({key: placeholder(type(value)) for key, value in _options(first).items()})
    for part in ("data", "head", "eval", "mesh"):
        _take(config[part], first[part])
    config.model.name, config.model.dtype = first.model.name, first.model.dtype
    config.model.num_classes = first.model.num_classes
    _take(config.model.options, _options(first))
    config.model.weights = of
    config.model.weights_without = (r"^(head|fc)\.",)
    config.data.low_image_size = None
    config.batch_size = first.batch_size
    config.sharding_rules = tuple(map(tuple, first.sharding_rules))
    # All but the classifier; and what is still left to chance in it, and learned from the images' statistics.
    config.optimizer.rates = ((r"^(?!(head|fc)\.)", 0.0),)
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.0
    config.sampling.name = "class"
    config.duration = common.duration(epochs=5.0)
    return config


def _options(first: ConfigDict) -> ConfigDict:
    """The run's options of the architecture, with a trunk that stands still."""
    options = {key: value for key, value in first.model.options.items() if value is not None}
    options["drop_path"] = 0.0
    if "resne" in first.model.name:
        options["frozen_norms"] = True
    return ConfigDict(options)


def _take(config: ConfigDict, values: ConfigDict) -> None:
    """Sets the settings that have values; lists, as JSON gives them back, become tuples again."""
    for key, value in values.items():
        if isinstance(value, ConfigDict):
            _take(config[key], value)
        elif value is not None and key in config:
            config[key] = tuple(value) if isinstance(value, list) else value
