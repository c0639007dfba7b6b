"""What is measured: a config's program with data, or with none."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from p10k_jax import pixels, setup
from p10k_jax.data.batches import Batch, Loaded, abstract_batch, check_divides
from p10k_jax.data.decode import DecodeReport
from p10k_jax.data.decoded import Decoded
from p10k_jax.data.order import Order, TrainingOrder
from p10k_jax.data.resident import Resident, place
from p10k_jax.data.splits import Split
from p10k_jax.planning.sized import sized_program
from p10k_jax.planning.sizes import Sizes
from p10k_jax.program import Program
from p10k_jax.training.mesh import batch_sharding, make_mesh
from p10k_jax.training.state import State


class Subject(NamedTuple):
    """What is measured.

    Attributes:
        config: Resolved.
        mesh: Of the devices.
        program: Lowers the steps; each call anew.
        data: For a person.
        training: The batches of so many steps.
        evaluation: Likewise; None where nothing is evaluated.
        resident: The split on the devices, for the step to take as its last operand; or nothing.
        with_input: Whether pixels come to the devices with the batches.
    """

    config: ConfigDict
    mesh: Mesh
    program: Callable[[], Program]
    data: str
    training: Callable[[int], Iterator[Loaded]]
    evaluation: Callable[[int], Iterator[Loaded]] | None
    resident: tuple[Resident, ...] = ()
    with_input: bool = True

    def init(self, program: Program) -> State:
        """A state with random weights: what is measured does not depend on them."""
        return jax.jit(program.initial, out_shardings=program.shardings)({})


def synthetic(config: ConfigDict, sizes: Sizes) -> Subject:
    """One batch of noise that stays on the devices: what they do where nothing is ever waited for.

    Raises:
        ValueError: a config that cannot be trained here.
    """
    mesh = make_mesh(**config.mesh)
    sized_program(config, sizes, mesh)  # resolves the config
    check_divides(config.eval.batch_size, batch_sharding(mesh))
    return Subject(
        config=config,
        mesh=mesh,
        program=lambda: sized_program(config, sizes, mesh)[0],
        data=f"one batch of noise, again and again, as if of {sizes.source}",
        training=lambda steps: iter([noise(config, mesh, config.batch_size)] * steps),
        evaluation=lambda steps: iter([noise(config, mesh, config.eval.batch_size)] * steps),
        with_input=False,
    )


def noise(config: ConfigDict, mesh: Mesh, batch_size: int) -> Loaded:
    """A batch of random pixels and labels."""
    generator = np.random.default_rng(0)
    highs = {"image": 256, "label": config.model.num_classes, "group": max(1, config.model.num_groups)}

    def values(key: str, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        if key in highs:
            return generator.integers(highs[key], size=shape.shape, dtype=shape.dtype)
        return np.ones(shape.shape, shape.dtype)

    shapes = abstract_batch(batch_size, config.data.canvas_size, batch_sharding(mesh))
    host = {key: values(key, shape) for key, shape in shapes.items()}
    device: Batch = {
        key: jax.make_array_from_callback(value.shape, shapes[key].sharding, value.__getitem__)
        for key, value in host.items()
    }
    return Loaded(device, {})


def real(
    config: ConfigDict,
    *,
    split: Split,
    decoded: Decoded | None,
    mesh: Mesh,
    order: Order,
    program: Callable[[], Program],
    evaluator: setup.Evaluator | None,
) -> Subject:
    """The training's own batches; see `p10k_jax.train.plan` for what is given."""

    def training(steps: int) -> Iterator[Loaded]:
        how = {"order": order, "steps": range(steps), "report": DecodeReport()}
        return pixels.training_batches(config, split, decoded, mesh, **how)

    def evaluation(steps: int) -> Iterator[Loaded]:
        # In an order without an end: a small split comes again and again, and no row is there for the shape alone.
        return evaluator.batches(range(steps), TrainingOrder(0, len(evaluator.split)), DecodeReport())

    on_devices = config.data.residency == "device"
    return Subject(
        config=config,
        mesh=mesh,
        program=program,
        data=f"{split.dataset} {split.name}, data.residency={config.data.residency}",
        training=training,
        evaluation=evaluation if evaluator else None,
        resident=(place(decoded, batch_sharding(mesh)),) if on_devices else (),
        with_input=not on_devices,
    )
