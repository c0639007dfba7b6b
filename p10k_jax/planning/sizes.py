"""How many images, classes and groups a config's data has: of prepared data, of Products-10K also without it."""

from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

import tfds_builder
from p10k_jax import recipe
from p10k_jax.data.splits import open_split
from tfds_builder.base_builder import FILE_FORMAT
from tfds_builder.config import DEFAULT_HOLDOUT, raw_config
from tfds_builder.prepare import is_prepared
from tfds_builder.products10k.facts import OFFICIAL

# Validation pictures of Products-10K in the default hold-out (tfds_builder.config).
_PRODUCTS10K_VALIDATION = 7_907


class Sizes(NamedTuple):
    """What a plan knows of the data.

    Attributes:
        train: Images of the training split.
        evaluation: Images of the split that is evaluated during training; 0 where none is, or its size is not known.
        num_classes: Of the data.
        num_groups: Width of a group head, where the loss wants one; else 0.
        source: Where this comes from, for a person.
    """

    train: int
    evaluation: int
    num_classes: int
    num_groups: int
    source: str


def dataset_sizes(config: ConfigDict, *, examples: int | None = None, groups: int | None = None) -> Sizes:
    """The sizes of the data that the config names; prepares and downloads nothing.

    Args:
        config: As given.
        examples: Images of the training split, for data that is not prepared.
        groups: Groups, likewise.

    Raises:
        ValueError: data that is neither prepared nor known, and no `examples` or `model.num_classes` given.
    """
    num_classes = config.model.num_classes
    builder = None if examples else _prepared(config)
    if builder is not None:
        train = open_split(builder, config.data.train_split)
        evaluation = len(open_split(builder, config.eval.split)) if config.eval.split else 0
        num_groups = recipe.num_groups(config, builder, train)
        return Sizes(len(train), evaluation, train.num_classes, num_groups, f"{train.dataset}, prepared")
    if config.data.name == "products10k" and not examples:
        return _products10k(config)
    name = f"data.name={config.data.name}"
    if not examples:
        raise ValueError(f"{name} is not prepared, so its sizes are not known: give --examples=N, images of train.")
    if not num_classes:
        raise ValueError(f"{name} is not read where --examples is given: give --config.model.num_classes=C too.")
    if config.loss.group_weight and not groups:
        raise ValueError(
            f"loss.group_weight={config.loss.group_weight} wants groups, but --examples is given alone: "
            "give --groups=N too."
        )
    return Sizes(examples, 0, num_classes, groups if config.loss.group_weight else 0, "--examples")


def _products10k(config: ConfigDict) -> Sizes:
    preparation = raw_config(config.data.config or "original").preparation
    total, validation, note = OFFICIAL["training pictures"], 0, "Products-10K's published sizes"
    if (preparation.holdout_take, preparation.holdout_least) == DEFAULT_HOLDOUT:
        validation = _PRODUCTS10K_VALIDATION
    elif preparation.holdout_take:
        note += ", the hold-out not taken off"
    sizes = {"train": total - validation, "validation": validation, "test": OFFICIAL["test pictures"]}
    split = config.data.train_split
    if split not in sizes:
        raise ValueError(f"data.train_split={split!r} of data that is not prepared: give --examples=N.")
    groups = OFFICIAL["highest group id"] + 1 if config.loss.group_weight else 0
    return Sizes(sizes[split], sizes.get(config.eval.split, 0), OFFICIAL["classes in train"], groups, note)


def _prepared(config: ConfigDict) -> tfds.core.DatasetBuilder | None:
    data = config.data
    where = data.data_dir and str(Path(data.data_dir).expanduser())
    name, _, config_in_name = data.name.partition("/")
    given = data.config or config_in_name or None
    try:
        if name in tfds_builder.BUILDERS:
            builder = tfds_builder.BUILDERS[name](config=given, data_dir=where)
        else:
            builder = tfds.builder(
                name, data_dir=where, file_format=FILE_FORMAT, **({"config": given} if given else {})
            )
    except tfds.core.registered.DatasetNotFoundError:
        return None
    return builder if is_prepared(builder) else None
