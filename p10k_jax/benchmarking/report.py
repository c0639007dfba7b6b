"""What was measured, for a person."""

from typing import Any

from p10k_jax.reporting.text_tables import aligned


def report(told: dict[str, Any]) -> str:
    """A heading and a table for each thing that was measured."""
    chip = told["chip"] or f"{told['device']} (its peaks are not known)"
    lines = [f"{told['model']} in {told['dtype']} on {told['devices']} x {chip}", f"data: {told['data']}"]
    for name, rows in (("input", _input), ("step", _step), ("eval", _evaluation), ("checkpoint", _checkpoint)):
        if name in told:
            lines.append(aligned([name, ""], rows(told[name])))
    return "\n\n".join(lines)


def _speed(part: dict[str, Any]) -> list[list[str]]:
    low, high = part["images_per_second_range"]
    return [
        ["images a second", f"{part['images_per_second']:,.1f} ({low:,.1f} to {high:,.1f})"],
        ["model FLOP utilisation", _share(part["mfu"])],
        ["data wait", _share(part["data_wait"])],
        ["GFLOP an image", f"{part['flops_per_image'] / 1e9:,.2f}" if part["flops_per_image"] else "unknown"],
    ]


def _step(told: dict[str, Any]) -> list[list[str]]:
    rows = []
    for phase in told["phases"]:
        if len(told["phases"]) > 1:
            rows.append([phase["description"], ""])
        rows += _speed(phase)
        rows += [
            ["GFLOP an image, of the program", f"{phase['program_flops_per_image'] / 1e9:,.2f}"],
            ["MB an image through memory", f"{phase['bytes_per_image'] / 1e6:,.1f}"],
            ["of the memory roofline", _share(phase["memory_roofline"])],
            ["GB of the program", f"{phase['program_bytes'] / 1e9:,.2f}"],
            ["seconds to compile", f"{phase['compile_seconds']['cold']:,.1f}"],
            ["seconds to compile, kept", f"{phase['compile_seconds']['cached']:,.1f}"],
        ]
    peak = told["peak_memory_bytes"]
    return [*rows, ["GB at the most", "unknown" if peak is None else f"{peak / 1e9:,.2f}"]]


def _evaluation(told: dict[str, Any]) -> list[list[str]]:
    return [*_speed(told), ["seconds of the first step", f"{told['first_step_seconds']:,.1f}"]]


def _input(told: dict[str, Any]) -> list[list[str]]:
    a_cpu_second = told["images_per_cpu_second"]
    return [
        ["residency", told["residency"]],
        ["images a second", f"{told['images_per_second']:,.0f} on {told['cores']} cores"],
        ["images a CPU second", "unknown" if a_cpu_second is None else f"{a_cpu_second:,.0f}"],
    ]


def _checkpoint(told: dict[str, Any]) -> list[list[str]]:
    dip = 1 - told["images_per_second_meanwhile"] / told["images_per_second"]
    return [
        ["GB", f"{told['bytes'] / 1e9:,.2f}"],
        ["seconds that the first blocks", f"{told['first_blocking_seconds']:,.2f}"],
        ["seconds that others block", f"{told['blocking_seconds']:,.2f}"],
        ["seconds in the background", f"{told['background_seconds']:,.2f}"],
        ["slower meanwhile", _share(max(0.0, dip))],
    ]


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"
