"""Compiles a config's programs for a slice and says what was compiled, in plain values; run in a process of its own."""

import functools
import re
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict

from p10k_jax import recipe, setup
from p10k_jax.data.batches import abstract_batch, check_divides
from p10k_jax.planning.hlo import Program
from p10k_jax.planning.sizes import Sizes
from p10k_jax.planning.topologies import Topology, parse_topology
from p10k_jax.program import training_program
from p10k_jax.training.duration import run_steps, to_steps
from p10k_jax.training.mesh import batch_sharding, make_mesh
from p10k_jax.training.state import evaluation_weights

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Request(NamedTuple):
    """What is to be compiled.

    Attributes:
        config: As given, as nested dicts.
        topology: See `parse_topology`.
        sizes: Of the data.
        everything: All phases and the evaluation; else only the phase that needs most memory: the first at full
            resolution.
    """

    config: dict[str, Any]
    topology: str
    sizes: Sizes
    everything: bool = True


def slice_devices(topology: Topology) -> list[jax.Device]:
    """The slice's devices, which only the compiler knows; of `cpu:N`, this machine's.

    Raises:
        ValueError: a shape that the compiler does not know, or no compiler.
    """
    if topology.generation == "cpu":
        devices = jax.devices("cpu")
        if len(devices) < topology.chips:
            raise ValueError(f"topology {topology.name!r}: there are {len(devices)} CPU devices (JAX_NUM_CPU_DEVICES).")
        return devices[: topology.chips]
    try:
        return topologies.get_topology_desc(platform="tpu", **topology.description()).devices
    except (jax.errors.JaxRuntimeError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"topology {topology.name!r} is not known to this TPU compiler: {error}") from error


def compiled(request: Request) -> dict[str, Any]:
    """Compiles, and gives per chip, in bytes and operations of one step:

    `device_kind`, `mesh`, `batch_size`, `total_steps`; `state`: bytes by kind; `phases` and `evaluation`, each with
    `description`, `steps` (how many of it the run takes), `images` (of a step, over all chips), `flops`, `bytes`,
    `memory_traffic`, `memory`, `collectives`, `seconds`, or with `out_of_memory`.

    Raises:
        ValueError: a config that cannot be trained, or not on this slice.
    """
    topology, sizes = parse_topology(request.topology), request.sizes
    config = ConfigDict(request.config)
    if config.model.dtype == "auto" and topology.generation != "cpu":
        config.model.dtype = "bfloat16"
    mesh = make_mesh(**config.mesh, devices=slice_devices(topology))
    check_divides(config.batch_size, batch_sharding(mesh), parts=config.optimizer.accumulate)
    classes = {"num_classes": sizes.num_classes, "num_groups": sizes.num_groups, "class_parts": mesh.shape["model"]}
    config.model.weights = ""  # none are read
    setup.resolve_sizes(config, recipe.preprocessing(config), **classes)
    if config.model.num_classes < sizes.num_classes:
        raise ValueError(f"model.num_classes={config.model.num_classes}, but there are {sizes.num_classes} classes.")

    durations = {"batch_size": config.batch_size, "num_examples": sizes.train}
    total_steps = run_steps(config.duration, **durations)
    in_steps = functools.partial(to_steps, total_steps=total_steps, **durations)
    model = setup.make_model(config, training=True)
    program = training_program(
        config,
        model,
        mesh,
        class_counts=functools.partial(made_up_counts, config.model.num_classes, sizes.train),
        total_steps=total_steps,
        in_steps=in_steps,
    )
    low_until = in_steps(config.data.low_until, setting="data.low_until") if config.data.low_image_size else 0
    phases = program.phases
    if not request.everything:
        phases = [next(phase for phase in phases if phase.until > low_until)]
    starts = [0, *(phase.until for phase in program.phases)]
    known: dict[str, dict[str, Any]] = {}
    told = [
        {
            "description": phase.description if len(program.phases) > 1 else "training",
            "steps": phase.until - max(start for start in starts if start < phase.until),
            "images": config.batch_size,
        }
        | _once(known, phase.lowered, config.model.padded_classes)
        for phase in phases
    ]
    answer = {
        "device_kind": mesh.devices.flat[0].device_kind,
        "mesh": dict(mesh.shape),
        "batch_size": config.batch_size,
        "canvas_size": config.data.canvas_size,
        "total_steps": total_steps,
        "state": {kind: shard_bytes(part) for kind, part in _kinds(program.state).items()},
        "batch": shard_bytes(abstract_batch(config.batch_size, config.data.canvas_size, batch_sharding(mesh))),
        "phases": told,
    }
    if request.everything and config.eval.split:
        answer["evaluation"] = _evaluation(config, mesh, program.state, sizes, total_steps, in_steps)
    return answer


def _evaluation(config: ConfigDict, mesh: Mesh, state, sizes: Sizes, total_steps: int, in_steps) -> dict[str, Any]:
    every = in_steps(config.eval.every, setting="eval.every")
    size = config.eval.batch_size
    check_divides(size, batch_sharding(mesh))
    predict = setup.jitted_predict_step(config, setup.make_model(config), mesh, num_classes=config.model.num_classes)
    batch = abstract_batch(size, config.data.canvas_size, batch_sharding(mesh))
    passes = -(-total_steps // every) if every else 1
    return {
        "description": "evaluation",
        "steps": passes * -(-sizes.evaluation // size),
        "images": size,
    } | _told(predict.lower(*evaluation_weights(state), batch), config.model.padded_classes)


def made_up_counts(num_classes: int, images: int) -> np.ndarray:
    """Images of each class, int64[c]: any will do, for a program does not depend on values, but not all alike, for the
    compiler would make one number of them."""
    return 2 + np.arange(num_classes) % max(2, 2 * images // num_classes)


def shard_bytes(tree) -> int:
    """Bytes of a tree of shapes with shardings that each chip holds."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape), dtype=np.int64)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _kinds(state) -> dict[str, Any]:
    names = {"params": "parameters", "opt_state": "optimizer", "ema": "averages", "batch_stats": "batch_stats"}
    return {kind: state[key] for key, kind in names.items()}


def _once(known: dict[str, dict[str, Any]], lowered: jax.stages.Lowered, classes: int) -> dict[str, Any]:
    """As `_told`; phases that are the same program are compiled once."""
    text = lowered.as_text()
    if text not in known:
        known[text] = _told(lowered, classes)
    return known[text]


def _told(lowered: jax.stages.Lowered, classes: int) -> dict[str, Any]:
    """`classes` is the width of the whole classifier, its padding included: what no chip should hold."""
    start = time.monotonic()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if (needed := out_of_memory(str(error))) is None:
            raise
        return {"out_of_memory": needed, "seconds": time.monotonic() - start}
    seconds, memory, cost = time.monotonic() - start, program.memory_analysis(), program.cost_analysis()
    text = Program(program.as_text())
    flops, traffic = text.matrix_flops(loops=False), text.memory_traffic(loops=False)
    wide = text.largest_with_side(classes)
    return {
        # XLA counts the body of a loop once.
        "flops": cost["flops"] + text.matrix_flops() - flops,
        "bytes": cost["bytes accessed"] * (text.memory_traffic() / traffic if traffic else 1.0),
        "memory_traffic": text.memory_traffic(main_memory=True),
        "memory": {
            "argument": memory.argument_size_in_bytes,
            "output": memory.output_size_in_bytes,
            "alias": memory.alias_size_in_bytes,
            "temporary": memory.temp_size_in_bytes,
            "code": memory.generated_code_size_in_bytes,
        },
        "collectives": {kind: one._asdict() for kind, one in text.collectives(mesh_size(program)).items()},
        "all_classes": wide and {"type": wide.type, "sizes": list(wide.sizes), "bytes": wide.bytes},
        "seconds": seconds,
    }


def mesh_size(program: jax.stages.Compiled) -> int:
    """Devices that a compiled program runs on."""
    return max(len(sharding.device_set) for sharding in jax.tree.leaves(program.output_shardings))


def out_of_memory(message: str) -> dict[str, int] | None:
    """`needed` and `available` bytes a chip, of what the TPU compiler says when a program does not fit; else None."""
    number = r"([\d.]+)([KMGT]?)"
    found = re.search(rf"Ran out of memory in memory space hbm.*?Used {number}i?B? of {number}i?B? hbm", message, re.S)
    if not found:
        return None
    needed, unit, available, other_unit = found.groups()
    return {"needed": round(float(needed) * _UNITS[unit]), "available": round(float(available) * _UNITS[other_unit])}
