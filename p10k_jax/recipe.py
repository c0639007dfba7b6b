"""The training recipe out of a config: which weights it starts from, which images come, what is done to them and what
they teach."""

import functools
import hashlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from p10k_jax import buckets, setup
from p10k_jax.config import holds_run
from p10k_jax.data.augment import Views, training_views
from p10k_jax.data.erasing import Erasing
from p10k_jax.data.mixing import mix
from p10k_jax.data.order import Order, TrainingOrder
from p10k_jax.data.policies import AugMix, RandAugment
from p10k_jax.data.sampling import DeferredOrder, balanced_order
from p10k_jax.data.splits import Split, split_groups, split_labels
from p10k_jax.finished import FinishedRun, open_run
from p10k_jax.models import Model
from p10k_jax.models.functional import Tree
from p10k_jax.models.padding import pad
from p10k_jax.training.losses import Objective, make_loss, make_objective
from p10k_jax.training.optimizer import make_optimizer
from p10k_jax.training.schedules import Schedule, make_schedule
from p10k_jax.training.step import Mixing
from p10k_jax.weights.files import WeightFile, read_preprocessing, read_weights
from p10k_jax.weights.fit import Fit, fit_tensors, same_part
from p10k_jax.weights.preprocessing import Preprocessing, preprocessing_of
from p10k_jax.weights.state_dict import to_timm

InSteps = Callable[..., int]


def preprocessing(config: ConfigDict) -> Preprocessing:
    """What the weights that the run starts from expect of images; without weights, what the model's name stands for."""
    data, source = config.data, config.model.weights
    if None not in (data.mean, data.std, data.image_size):  # as of a run that goes on, whose weights may be gone
        return Preprocessing(tuple(data.mean), tuple(data.std), data.image_size)
    if run := _run_of(source):
        data = run.config.data
        return Preprocessing(tuple(data.mean), tuple(data.std), data.image_size)
    told = read_preprocessing(source) if source else None
    return told or preprocessing_of(config.model.name)


def start_weights(config: ConfigDict, model: Model) -> Fit | None:
    """The weights that a new run starts from, fitted to the model; None for a start from chance.

    No source has a padded classifier: they are fitted to the model without the padding, and padded. The `sha256` is
    their identity: that of the file, or of all tensors of a finished run.

    Raises:
        ValueError: no such weights, or some that do not fit.
    """
    source = config.model.weights
    if not source:
        return None
    run = _run_of(source)
    file = _weights_of_run(run) if run else read_weights(source)
    whole = setup.make_model(config, padded=False) if config.model.get("padded_classes") else model
    fit = fit_tensors(
        _without(file.tensors, config.model.weights_without),
        _shapes(whole),
        prefix_tokens=model.prefix_tokens,
        new=config.model.weights_new,
        left_over=config.model.weights_left_over,
    )
    weights = pad(fit.weights, same_part(_shapes(model), fit.weights))
    return fit._replace(weights=weights, source=file.description, sha256=file.sha256, preprocessing=file.preprocessing)


def _shapes(model: Model) -> Tree:
    params, batch_stats = jax.eval_shape(model.init, jax.random.key(0))
    return {"params": params, "batch_stats": batch_stats}


def _without(tensors: dict[str, np.ndarray], patterns: tuple[str, ...]) -> dict[str, np.ndarray]:
    for pattern in patterns:
        try:
            found = [name for name in tensors if re.search(pattern, name)]
        except re.error as error:
            raise ValueError(f"model.weights_without: {pattern!r} is no regular expression: {error}.") from error
        if not found:
            raise ValueError(f"model.weights_without: {pattern!r} is found in none of {', '.join(sorted(tensors))}.")
        tensors = {name: tensor for name, tensor in tensors.items() if name not in found}
    return tensors


def _run_of(source: str) -> FinishedRun | None:
    if buckets.is_bucket(source or ""):
        return open_run(buckets.opened(source, setting="model.weights", writes=False).folder)
    return open_run(Path(source).expanduser()) if source and holds_run(Path(source).expanduser()) else None


def _weights_of_run(run: FinishedRun) -> WeightFile:
    trees = run.weights()
    tensors = to_timm(trees["params"]) | to_timm(trees["batch_stats"])
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.tobytes())
    return WeightFile(tensors, None, f"run {run.place}, step {run.step:,}", digest.hexdigest())


def skips_not_finite(config: ConfigDict) -> bool:
    """Whether a step that is not finite is left out. Raises ValueError for a word that the setting does not know."""
    if config.not_finite not in ("stop", "skip"):
        raise ValueError(f"not_finite={config.not_finite!r} is unknown; known: stop, skip.")
    return config.not_finite == "skip"


def order(config: ConfigDict, builder: tfds.core.DatasetBuilder, split: Split, in_steps: InSteps) -> Order:
    """Which image stands at which place of the training stream."""
    plain = TrainingOrder(config.seed, len(split))
    after = in_steps(config.sampling.after, setting="sampling.after")
    if not config.sampling.name:
        if after:
            raise ValueError("sampling.after needs sampling.name: class, sqrt or group.")
        return plain
    labels = split_labels(builder, split)
    groups = split_groups(builder, split) if config.sampling.name == "group" else np.zeros_like(labels)
    balanced = balanced_order(config.sampling.name, seed=config.seed, labels=labels, groups=groups)
    return DeferredOrder(plain, balanced, start=after * config.batch_size) if after else balanced


def num_groups(config: ConfigDict, builder: tfds.core.DatasetBuilder, split: Split) -> int:
    """Width of the group head; 0 where the loss has no use for one."""
    if not config.loss.group_weight:
        return 0
    groups = split_groups(builder, split)
    if groups.max() == 0:
        raise ValueError(f"loss.group_weight={config.loss.group_weight}, but {split.dataset} has no groups.")
    return int(groups.max()) + 1


def class_counts(config: ConfigDict, builder: tfds.core.DatasetBuilder, split: Split) -> np.ndarray:
    """Images of every class that the model tells: int64[c]."""
    return np.bincount(split_labels(builder, split), minlength=config.model.num_classes)


def objective(config: ConfigDict, class_counts: Callable[[], np.ndarray]) -> Objective:
    """What training makes small; `class_counts`, images of every class, is called where it needs them."""
    settings = dict(config.loss)
    group_weight = settings.pop("group_weight")
    counts = None
    for setting in ("logit_adjustment", "class_weight_power"):
        if config.sampling.name and settings[setting]:
            raise ValueError(
                f"sampling.name={config.sampling.name!r} and loss.{setting}={settings[setting]} both even out how "
                "often classes come; choose one."
            )
    if settings["logit_adjustment"] or settings["class_weight_power"] or settings["margin"]:
        counts = class_counts()
    scale = config.head.scale if config.head.name == "cosine" else None
    padded = config.model.padded_classes > config.model.num_classes
    loss = make_loss(
        **settings,
        scale=scale,
        class_counts=counts,
        num_classes=config.model.num_classes if padded else None,
    )
    return make_objective(loss, group_weight=group_weight)


def optimizer(
    config: ConfigDict, params, total_steps: int, in_steps: InSteps
) -> tuple[optax.GradientTransformation, Schedule, str]:
    """The update rule, its schedule, and the table of who decays and learns how fast."""
    settings = {key: value for key, value in config.optimizer.items() if key not in ("learning_rate", "accumulate")}
    head_first = in_steps(settings.pop("head_first"), setting="optimizer.head_first")
    if 2 * head_first >= total_steps:
        raise ValueError(
            f"optimizer.head_first is {head_first} steps of {total_steps}: all else comes in over as many again, so it "
            "must be less than half of the run."
        )
    schedule = make_schedule(
        config.schedule.name,
        peak=config.optimizer.learning_rate,
        warmup_steps=in_steps(config.schedule.warmup, setting="schedule.warmup", rounding=math.floor),
        cooldown_steps=in_steps(config.schedule.cooldown, setting="schedule.cooldown", rounding=math.floor),
        total_steps=total_steps,
        end=config.schedule.end,
    )
    rule, table = make_optimizer(settings.pop("name"), schedule, params, head_first_steps=head_first, **settings)
    return rule, schedule, table


class Phase(NamedTuple):
    """A part of the run in which images are made alike.

    Attributes:
        until: Its last step.
        image_size: Side in pixels of what the model sees.
        views, mixing: How images are made.
        description: For a person.
    """

    until: int
    image_size: int
    views: Views
    mixing: Mixing | None
    description: str


def phases(config: ConfigDict, total_steps: int, in_steps: InSteps) -> list[Phase]:
    """The parts of the run, in order: at low resolution and at full, with all augmentation and at last without.

    Raises:
        ValueError: a setting out of range.
    """
    low_until = in_steps(config.data.low_until, setting="data.low_until") if config.data.low_image_size else 0
    plain_after = total_steps - in_steps(config.augment.plain_end, setting="augment.plain_end")
    if low_until >= total_steps or plain_after < 0:
        raise ValueError(
            f"data.low_until is {low_until} steps and augment.plain_end {total_steps - plain_after} of {total_steps}: "
            "the first must end before the run, and the second be no longer."
        )
    parts = []
    for until in sorted({low_until, plain_after, total_steps}):
        if not 0 < until <= total_steps:
            continue
        low, plain = until <= low_until, until > plain_after
        size = config.data.low_image_size if low else config.data.image_size
        description = f"up to step {until:,}: {size} pixels" + (", plain" if plain else "")
        parts.append(Phase(until, size, _views(config, size, plain), None if plain else _mixing(config), description))
    return parts


def _views(config: ConfigDict, image_size: int, plain: bool) -> Views:
    augment = config.augment
    settings = {}
    if not plain:
        settings = {
            "jitter": tuple(augment.jitter),
            "grey_probability": augment.grey,
            "randaugment": RandAugment(**augment.randaugment),
            "augmix": AugMix(**augment.augmix),
            "erasing": Erasing(**augment.erasing),
        }
    return training_views(
        image_size=image_size,
        scale=tuple(augment.crop_scale),
        ratio=tuple(augment.crop_ratio),
        flip=augment.flip,
        pad=config.data.pad,
        statistics=setup.normalisation(config),
        **settings,
    )


def _mixing(config: ConfigDict) -> Mixing | None:
    settings = config.augment.mix
    return functools.partial(mix, **settings) if settings.mixup_alpha or settings.cutmix_alpha else None
