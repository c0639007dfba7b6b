"""A plan for a person: figures down, slices and meshes across."""

from collections.abc import Callable, Sequence
from typing import Any

from p10k_jax.reporting.text_tables import aligned

_KINDS = ("parameters", "optimizer", "averages", "batch_stats", "batch", "temporary", "code")
_NAMES = {"batch_stats": "statistics", "temporary": "activations, temporaries", "code": "program"}


def plans_text(plans: Sequence[dict[str, Any]]) -> str:
    """The table of several plans, then what each has to say beside it."""
    header = ["", *(plan["topology"] for plan in plans)]
    rows = [[name, *(cell(plan) for plan in plans)] for name, cell in _ROWS if any(cell(plan) for plan in plans)]
    return "\n\n".join([aligned(header, rows), *filter(None, map(_beside, plans))])


def trials_text(topology: str, trials: Sequence[dict[str, Any]], largest: int | None) -> str:
    """What a search for the largest batch tried."""
    cells = [
        [
            f"{one['batch_size']:,}",
            _gigabytes(one["needed"]),
            _gigabytes(one["available"]),
            "yes" if one["fits"] else "no",
        ]
        for one in trials
    ]
    table = aligned(["images a step", "GB a chip", "of", "fits"], cells)
    found = f"largest batch that fits: {largest:,}" if largest else "no batch fits"
    return f"{topology}\n{table}\n{found}"


def _gigabytes(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:,.2f}"


def _unless_none(form: str, scale: float = 1.0) -> Callable[[float | None], str]:
    return lambda value: "" if value is None else form.format(value / scale)


def _kind(kind: str) -> Callable[[dict[str, Any]], str]:
    return lambda plan: _gigabytes(plan["memory"][kind]) if plan["memory"].get(kind) else ""


def _fits(plan: dict[str, Any]) -> str:
    return "yes" if plan["fits"] else f"no, {_gigabytes(plan['excess_bytes'])} too much"


def _data(plan: dict[str, Any]) -> str:
    data = plan["data"]
    fits = {True: "fits", False: "does not fit", None: ""}[data["fits_on_device"]]
    return f"{_gigabytes(data['bytes_per_chip'])} {fits}".strip()


def _mesh(plan: dict[str, Any]) -> str:
    return " ".join(f"{axis}={size}" for axis, size in plan["mesh"].items() if size > 1) or "one chip"


_flops, _bytes = _unless_none("{:,.1f}", 1e9), _unless_none("{:,.0f}", 1e6)
_rate, _hours = _unless_none("{:,.0f}"), _unless_none("{:,.2f}")
_ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("chips", lambda plan: f"{plan['chips']:,}"),
    ("mesh", _mesh),
    ("images a step", lambda plan: f"{plan['batch_size']:,}"),
    ("images a chip", lambda plan: f"{plan['images_per_chip']:,.4g}"),
    *((f"GB a chip: {_NAMES.get(kind, kind)}", _kind(kind)) for kind in _KINDS),
    ("GB a chip: the most at once", lambda plan: _gigabytes(plan["total_bytes"])),
    ("GB a chip has", lambda plan: _gigabytes(plan["chip_memory_bytes"])),
    ("fits", _fits),
    ("training images as uint8, GB a chip", _data),
    ("GFLOP an image", lambda plan: _flops(plan["flops_per_image"])),
    ("MB an image, as XLA counts", lambda plan: _bytes(plan["bytes_per_image"])),
    ("MB an image through main memory", lambda plan: _bytes(plan["memory_traffic_per_image"])),
    ("images a second at most", lambda plan: _rate(plan["images_per_second"])),
    ("bound by", lambda plan: plan["bound_by"] or ""),
    ("hours at least", lambda plan: _hours(plan["hours"])),
    ("chip-hours at least", lambda plan: _hours(plan["chip_hours"])),
    ("images a second, expected", lambda plan: _rate(plan["expected_images_per_second"])),
    ("hours, expected", lambda plan: _hours(plan["expected_hours"])),
    ("chip-hours, expected", lambda plan: _hours(plan["expected_chip_hours"])),
)


def _beside(plan: dict[str, Any]) -> str:
    parts = [*plan["phases"], *([plan["evaluation"]] if plan["evaluation"] else [])]
    lines = [f"{plan['topology']}, {_mesh(plan)}:"]
    lines += [f"  {_part(part)}" for part in parts]
    lines += [
        f"  {kind}: {one['count']:,} a step, {one['bytes'] / 1e6:,.1f} MB; a chip sends {one['sent'] / 1e6:,.1f} MB"
        for kind, one in plan["collectives"].items()
    ]
    if wide := plan["largest_array_with_all_classes"]:
        shape = ", ".join(map(str, wide["sizes"]))
        lines.append(
            f"  largest array with all classes on one chip: {wide['type']}[{shape}], {wide['bytes'] / 1e6:,.1f} MB"
        )
    elif plan["phases"][0]["flops_per_image"] is not None:
        lines.append("  no array with all classes on one chip")
    if plan["advice"]:
        lines += ["  To make it fit:", *(f"    {way}" for way in plan["advice"])]
    return "\n".join(lines)


def _part(part: dict[str, Any]) -> str:
    told = f"{part['description']}: {part['steps']:,} steps, {_gigabytes(part['total_bytes'])} GB"
    if part["out_of_memory"]:
        return f"{told}, too much for the compiler"
    if part["seconds"]:
        told += "; a step takes " + ", ".join(f"{1e3 * s:.1f} ms {what}" for what, s in part["seconds"].items())
    return f"{told} (compiled in {part['compile_seconds']:.0f} s)"
