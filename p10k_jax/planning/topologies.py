"""Names of TPU slices, as a user writes them and as the compiler wants them."""

import math
import re
from typing import NamedTuple

from p10k_jax.hardware import TPUS, Chip

# What the compiler takes as TPU_ACCELERATOR_TYPE; those of v4 and v5p count cores, two a chip.
_ACCELERATORS = {"v4": ("v4", 2), "v5e": ("v5litepod", 1), "v5p": ("v5p", 2), "v6e": ("v6e", 1)}
# Chips to the shape that Google's TPU documentation gives for so many.
_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_DEEP = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8", 512: "8x8x8"} | {
    1024: "8x8x16",
    2048: "8x16x16",
    4096: "16x16x16",
}
_SHAPES = {"v4": _DEEP, "v5e": _FLAT, "v5p": _DEEP, "v6e": _FLAT}


class Topology(NamedTuple):
    """A slice.

    Attributes:
        name: `v5e:4x4`; `cpu:8` stands for CPU devices of this machine, which tests compile for.
        generation: `v4`, `v5e`, `v5p`, `v6e`, or `cpu`.
        chips: Their number; a chip is one device.
    """

    name: str
    generation: str
    chips: int

    @property
    def chip(self) -> Chip | None:
        """Its peaks; None for a CPU."""
        return TPUS.get(self.generation)

    def description(self) -> dict[str, str]:
        """Arguments of `jax.experimental.topologies.get_topology_desc` beside the platform."""
        # Both cores of a v4 chip as one device, as jobs run there; with v5p that is the default.
        more = {"chip_config_name": "megacore"} if self.generation == "v4" else {}
        return {"topology_name": self.name} | more

    def environment(self) -> dict[str, str]:
        """Variables of a process that compiles for it: nothing is asked of a device or of the network."""
        if self.generation == "cpu":
            return {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(self.chips)}
        name, cores = _ACCELERATORS[self.generation]
        return {
            "JAX_PLATFORMS": "cpu",  # the compiler needs no device, and this machine's may be in use
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "TPU_ACCELERATOR_TYPE": f"{name}-{self.chips * cores}",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else one process a machine
        }


def parse_topology(text: str) -> Topology:
    """The slice of that name: `v5e:4x4`, `v5p:2x2x4`, or by size as clouds do, `v5e-16`, `v5litepod-16`, `v5p-32`.

    Of v4 and v5p a size counts cores, two a chip: `v5p-32` has 16 chips.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if match := re.fullmatch(r"cpu:([1-9]\d*)", text):
        return Topology(text, "cpu", int(match[1]))
    if match := re.fullmatch(r"(v\w+):([1-9]\d*(?:x[1-9]\d*)+)", text):
        generation, shape = match.groups()
        if generation in _SHAPES:
            sides = [int(side) for side in shape.split("x")]
            deep = len(next(iter(_SHAPES[generation].values())).split("x"))
            if len(sides) != deep:
                known = ", ".join(_SHAPES[generation].values())
                raise ValueError(f"topology {text!r}: a slice of {generation} has {deep} sides, such as {known}.")
            return Topology(text, generation, math.prod(sides))
    elif match := re.fullmatch(r"(v\w+)-([1-9]\d*)", text):
        prefix, size = match[1], int(match[2])
        for generation, (name, cores) in _ACCELERATORS.items():
            if prefix not in (generation, name):
                continue
            shape = _SHAPES[generation].get(size // cores) if size % cores == 0 else None
            if shape is None:
                sizes = ", ".join(f"{prefix}-{chips * cores}" for chips in _SHAPES[generation])
                raise ValueError(f"topology {text!r} is no usual slice: {sizes}. Give its shape: {generation}:AxB.")
            return Topology(f"{generation}:{shape}", generation, size // cores)
    known = "; ".join(f"{generation}: {', '.join(shapes.values())}" for generation, shapes in _SHAPES.items())
    raise ValueError(f"topology {text!r} is unknown. Give GENERATION:SHAPE, for example v5e:4x4. Known: {known}.")
