"""The device mesh and who holds which part of an array.

One mesh with the axes `data`, `fsdp` and `model`. A batch is split over `data` and `fsdp`; parameters are split over
`fsdp` and `model` as rules say, and whole elsewhere. `jax.jit` over such arrays is the only parallel path.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from p10k_jax.models.heads import CLASSIFIER
from p10k_jax.training.patterns import Rules, first_match, path_name

AXES = ("data", "fsdp", "model")
BATCH_AXES = AXES[:2]
# Below this many elements a parameter stays whole: gathering it would cost more than it saves.
_SMALL = 2**14


def make_mesh(data: int = -1, fsdp: int = 1, model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices (or those given).

    Args:
        data, fsdp, model: Sizes of the axes; one of them may be -1 and takes what the others leave.
        devices: Default: all devices of all processes.

    Raises:
        ValueError: the sizes do not multiply to the number of devices, or these are of several slices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [data, fsdp, model]
    fixed = int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) == 1 and fixed > 0 and len(devices) % fixed == 0:
        sizes[sizes.index(-1)] = len(devices) // fixed
    if min(sizes) < 1 or int(np.prod(sizes)) != len(devices):
        raise ValueError(
            f"mesh data={data}, fsdp={fsdp}, model={model} does not fit {len(devices)} devices: the sizes must "
            "multiply to that number, or one of them be -1 and the others divide it."
        )
    if len({getattr(device, "slice_index", 0) for device in devices}) > 1:
        raise ValueError("The devices are of several slices; a mesh takes those of one.")
    # `jax.make_mesh` splits a physical axis on v5e alone, so that on v6e-256 no axis could be 4.
    arranged = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(arranged, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """First axis split over `data` and `fsdp`."""
    return NamedSharding(mesh, P(BATCH_AXES))


def array_split(
    array: Array, mesh: Mesh, *, rows: tuple[str, ...] = BATCH_AXES, columns: str | None = None
) -> NamedSharding:
    """First axis split over `rows` and last over `columns`, each where it divides; rows at least as a batch is."""

    def dividing(size: int, names: tuple[str, ...]) -> tuple[str, ...] | None:
        return names if size % math.prod(mesh.shape[name] for name in names) == 0 else None

    first = dividing(array.shape[0], rows) or dividing(array.shape[0], BATCH_AXES)
    last = [*[None] * (array.ndim - 2), dividing(array.shape[-1], (columns,)) if columns else None]
    return NamedSharding(mesh, P(first, *last[: array.ndim - 1]))


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, P())


def state_shardings(mesh: Mesh, state, rules: Rules):
    """Shardings for a train state, from rules over its dotted paths.

    Args:
        mesh: Of `make_mesh`.
        state: Any tree of arrays or shapes. Optimizer moments and averages carry the parameter's path at their end,
            so a rule for a parameter holds for them too.
        rules: `(pattern, spec)`: `'fsdp'` splits the largest axis that `fsdp` divides; `'classes'` splits the last axis
            over `model` where that divides it, and the largest of the others that `fsdp` divides; `'replicated'`
            splits nothing; a tuple gives a mesh axis, several, or None for each array axis. Without a match:
            `'classes'` for the classifier, `'fsdp'` for all else.

    Raises:
        ValueError: a spec that is unknown, of the wrong length, or that does not divide the array.
    """

    def sharding(path, leaf) -> NamedSharding:
        name = path_name(path)
        spec = first_match((*rules, (CLASSIFIER, "classes")), name, "fsdp")
        if name.startswith("opt_state.") and not isinstance(spec, str) and len(spec) != leaf.ndim:
            spec = "fsdp"  # factored moments, which have other shapes than their parameter
        if spec == "replicated" or leaf.ndim == 0:
            return NamedSharding(mesh, P())
        if spec == "classes" and leaf.shape[-1] % mesh.shape["model"] == 0:
            return NamedSharding(mesh, _split_last(leaf.shape, mesh))
        if spec in ("classes", "fsdp"):
            return NamedSharding(mesh, _split_largest(leaf.shape, mesh.shape["fsdp"]))
        return NamedSharding(mesh, _checked(name, leaf.shape, spec, mesh))

    return jax.tree_util.tree_map_with_path(sharding, state)


def _split_largest(shape: tuple[int, ...], parts: int, *, least: int = _SMALL) -> P:
    if parts == 1 or np.prod(shape) < least:
        return P()
    for axis in sorted(range(len(shape)), key=lambda axis: -shape[axis]):
        if shape[axis] % parts == 0:
            return P(*[None] * axis, "fsdp")
    return P()


def _split_last(shape: tuple[int, ...], mesh: Mesh) -> P:
    if mesh.shape["model"] == 1:
        return _split_largest(shape, mesh.shape["fsdp"])
    others = tuple(_split_largest(shape[:-1], mesh.shape["fsdp"], least=_SMALL // shape[-1]))
    return P(*others, *[None] * (len(shape) - 1 - len(others)), "model")


def _checked(name: str, shape: tuple[int, ...], spec, mesh: Mesh) -> P:
    if isinstance(spec, str) or len(spec) != len(shape):
        raise ValueError(
            f"sharding rule for {name}: {spec!r} does not fit shape {shape}; give 'fsdp', 'classes', 'replicated', "
            "or one entry an axis."
        )
    for entry, size in zip(spec, shape, strict=True):
        axes = () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
        if unknown := [axis for axis in axes if axis not in mesh.shape]:
            raise ValueError(
                f"sharding rule for {name}: mesh axis {unknown[0]!r} is unknown; known: {', '.join(AXES)}."
            )
        parts = int(np.prod([mesh.shape[axis] for axis in axes]))
        if size % parts:
            raise ValueError(
                f"sharding rule for {name}: {entry!r} cuts into {parts} parts, which do not divide {size}; the next "
                f"size that they divide is {-(-size // parts) * parts} (for a head: model.num_classes)."
            )
    return P(*spec)
