"""The program of a config whose data is known by its sizes alone."""

import functools

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from p10k_jax import recipe, setup
from p10k_jax.data.batches import check_divides
from p10k_jax.planning.sizes import Sizes
from p10k_jax.program import Program, training_program
from p10k_jax.training.duration import run_steps, to_steps
from p10k_jax.training.mesh import batch_sharding


def sized_program(config: ConfigDict, sizes: Sizes, mesh: Mesh) -> tuple[Program, int, recipe.InSteps]:
    """What training would compile, the steps of the run, and what turns a setting's duration into steps.

    Args:
        config: As given; is resolved. No weights are read.
        sizes: Of the data.
        mesh: Of devices, or of such as only a compiler knows.

    Raises:
        ValueError: a config that cannot be trained, or not on this mesh.
    """
    check_divides(config.batch_size, batch_sharding(mesh), parts=config.optimizer.accumulate)
    config.model.weights = ""
    setup.resolve_sizes(
        config,
        recipe.preprocessing(config),
        num_classes=sizes.num_classes,
        num_groups=sizes.num_groups,
        class_parts=mesh.shape["model"],
    )
    if config.model.num_classes < sizes.num_classes:
        raise ValueError(f"model.num_classes={config.model.num_classes}, but there are {sizes.num_classes} classes.")
    durations = {"batch_size": config.batch_size, "num_examples": sizes.train}
    total_steps = run_steps(config.duration, **durations)
    in_steps = functools.partial(to_steps, total_steps=total_steps, **durations)
    program = training_program(
        config,
        setup.make_model(config, training=True),
        mesh,
        class_counts=functools.partial(made_up_counts, config.model.num_classes, sizes.train),
        total_steps=total_steps,
        in_steps=in_steps,
    )
    return program, total_steps, in_steps


def made_up_counts(num_classes: int, images: int) -> np.ndarray:
    """Images of each class, int64[c]: any will do, for a program does not depend on values, but not all alike, for the
    compiler would make one number of them."""
    return 2 + np.arange(num_classes) % max(2, 2 * images // num_classes)
