"""The compiled part of a training: the state's shapes and shardings, and the steps lowered for a mesh.

It needs the config, the number of images of each class and the devices, but no picture, no file and no value: so the
same program can be made for devices that are not there.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array
from ml_collections import ConfigDict

from p10k_jax import recipe
from p10k_jax.data.augment import Views
from p10k_jax.data.batches import abstract_batch
from p10k_jax.data.resident import Resident, abstract_indices, fetch
from p10k_jax.models.functional import Model, Tree
from p10k_jax.training.checkpoint import abstract_state
from p10k_jax.training.class_sharding import class_sharded
from p10k_jax.training.mesh import batch_sharding, replicated, state_shardings
from p10k_jax.training.optimizer import frozen_parameters
from p10k_jax.training.patterns import check_patterns
from p10k_jax.training.state import State, initial_state
from p10k_jax.training.step import Metrics, make_train_step


class PhaseProgram(NamedTuple):
    """A part of the run and its step.

    Attributes:
        until: Its last step.
        image_size: Side in pixels of what the model sees.
        views: How images are made.
        description: For a person.
        lowered: `(state, batch) -> (state, metrics)`, or `(state, batch, resident) -> (state, metrics)` where the split
            is on the devices and the batch says which rows; the state donated; compile it.
    """

    until: int
    image_size: int
    views: Views
    description: str
    lowered: jax.stages.Lowered


class Program(NamedTuple):
    """What training compiles.

    Attributes:
        initial: Weights to start from ({} for none) to the state before the first step; see `initial_state`.
        state: Shapes and shardings of the state.
        shardings: Those alone.
        phases: In order.
        parameter_table: Which parameter decays and learns how fast, for a person.
    """

    initial: Callable[[Tree], State]
    state: State
    shardings: State
    phases: list[PhaseProgram]
    parameter_table: str


def training_program(
    config: ConfigDict,
    model: Model,
    mesh: Mesh,
    *,
    class_counts: Callable[[], np.ndarray],
    total_steps: int,
    in_steps: recipe.InSteps,
    resident: Resident | None = None,
) -> Program:
    """The program of a resolved config.

    Args:
        config: Resolved.
        model: Of the config.
        mesh: Of devices, or of such as only a compiler knows.
        class_counts: Gives int64[c], images of every class; called where the loss goes by frequency.
        total_steps: Of the run.
        in_steps: Turns a setting's duration into steps.
        resident: Shapes of the split where it is on the devices; None where batches bring their images.

    Raises:
        ValueError: a setting out of range, or a pattern that matches nothing.
    """
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    optimizer, schedule, table = recipe.optimizer(config, params, total_steps, in_steps)
    settings = {"model": model, "optimizer": optimizer, "seed": config.seed, "ema": config.ema_decay > 0}
    initial = functools.partial(initial_state, **settings)
    shapes = jax.eval_shape(initial, {})
    check_patterns(config.sharding_rules, shapes, setting="sharding_rules")
    shardings = state_shardings(mesh, shapes, config.sharding_rules)
    make_step = functools.partial(
        make_train_step,
        class_sharded(model, mesh, shardings["params"]),
        optimizer,
        objective=recipe.objective(config, class_counts),
        schedule=schedule,
        ema_decay=config.ema_decay,
        accumulate=config.optimizer.accumulate,
        frozen=frozen_parameters(params, config.optimizer.rates),
        skip_not_finite=recipe.skips_not_finite(config),
    )
    state = abstract_state(shapes, shardings)
    sharding = batch_sharding(mesh)
    if resident is None:
        operands = (abstract_batch(config.batch_size, config.data.canvas_size, sharding),)
    else:
        operands = (abstract_indices(config.batch_size, sharding), resident)

    def lowered(phase: recipe.Phase) -> PhaseProgram:
        step = make_step(views=phase.views, mixing=phase.mixing)
        if resident is not None:
            step = _fetching(step, sharding)
        step = jax.jit(step, out_shardings=(shardings, replicated(mesh)), donate_argnums=0)
        return PhaseProgram(phase.until, phase.image_size, phase.views, phase.description, step.lower(state, *operands))

    phases = [lowered(phase) for phase in recipe.phases(config, total_steps, in_steps)]
    return Program(initial, state, shardings, phases, table)


def _fetching(step: Callable, sharding: NamedSharding) -> Callable:
    """The step on a batch of indices, whose images it takes out of the resident split first."""

    def fetching_step(state: State, batch: dict[str, Array], resident: Resident) -> tuple[State, Metrics]:
        return step(state, fetch(resident, batch, sharding))

    return fetching_step
