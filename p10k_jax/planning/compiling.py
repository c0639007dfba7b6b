"""Compiles a config's programs for a slice and says what was compiled, in plain values; run in a process of its own."""

import re
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict

from p10k_jax import setup
from p10k_jax.data.batches import abstract_batch, check_divides
from p10k_jax.planning.compiled_figures import compiled_figures
from p10k_jax.planning.sized import sized_program
from p10k_jax.planning.sizes import Sizes
from p10k_jax.planning.topologies import Topology, parse_topology
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
    program, total_steps, in_steps = sized_program(config, sizes, mesh)
    phases = program.phases
    if not request.everything:
        phases = [next(phase for phase in phases if phase.image_size == config.data.image_size)]
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
    start = time.monotonic()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if (needed := out_of_memory(str(error))) is None:
            raise
        return {"out_of_memory": needed, "seconds": time.monotonic() - start}
    return compiled_figures(program, classes) | {"seconds": time.monotonic() - start}


def out_of_memory(message: str) -> dict[str, int] | None:
    """`needed` and `available` bytes a chip, of what the TPU compiler says when a program does not fit; else None."""
    number = r"([\d.]+)([KMGT]?)"
    found = re.search(rf"Ran out of memory in memory space hbm.*?Used {number}i?B? of {number}i?B? hbm", message, re.S)
    if not found:
        return None
    needed, unit, available, other_unit = found.groups()
    return {"needed": round(float(needed) * _UNITS[unit]), "available": round(float(available) * _UNITS[other_unit])}
