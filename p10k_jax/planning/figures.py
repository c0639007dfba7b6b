"""From what was compiled to what it costs: memory by kind, the roofline's bound, hours."""

from typing import Any

from p10k_jax.hardware import Chip
from p10k_jax.planning.sizes import Sizes
from p10k_jax.planning.topologies import Topology


def plan_figures(answer: dict[str, Any], topology: Topology, sizes: Sizes, *, mfu: float) -> dict[str, Any]:
    """A plan as the program prints it.

    Args:
        answer: Of `compiling.compiled`.
        topology, sizes: What it was compiled for.
        mfu: Share of the chip's peak that is expected in the end.

    Returns:
        What `docs/planning.md` lists. All is per chip but `images_per_second`, hours and what is called `_per_image`;
        what a chip without published peaks does not allow to say is None.
    """
    chip, state = topology.chip, answer["state"]
    phases = [phase_figures(phase, answer, topology, mfu=mfu) for phase in answer["phases"]]
    evaluation = None
    if "evaluation" in answer:
        evaluation = phase_figures(answer["evaluation"], answer, topology, mfu=mfu)
        if not evaluation["out_of_memory"]:  # the whole state lies there beside it, not the averages alone
            memory = answer["evaluation"]["memory"]
            beside = sum(state.values()) + memory["output"] + memory["temporary"] + memory["code"]
            evaluation["total_bytes"] = beside + answer["batch"]
    parts = [*phases, evaluation] if evaluation else phases
    largest = max(phases, key=lambda phase: phase["total_bytes"])
    memory = max((part["available"] for part in parts if part["available"]), default=chip and chip.memory_bytes)
    total = max(part["total_bytes"] for part in parts)
    fits = memory is None or (total <= memory and not any(part["out_of_memory"] for part in parts))
    pixels = 3 * answer["canvas_size"] ** 2 * sizes.train
    hours = _sum(phases, "hours"), _sum(phases, "expected_hours")
    own = ("flops_per_image", "bytes_per_image", "memory_traffic_per_image", "temporary_bytes", "collectives")
    return {
        "topology": topology.name,
        "chips": topology.chips,
        "chip": chip and chip.name,
        "mesh": answer["mesh"],
        "batch_size": answer["batch_size"],
        "images_per_chip": answer["batch_size"] / topology.chips,
        "total_steps": answer["total_steps"],
        **{key: largest[key] for key in own},
        "memory": {**state, "batch": answer["batch"], "temporary": largest["temporary_bytes"], "code": largest["code"]},
        "total_bytes": total,
        "chip_memory_bytes": memory,
        "fits": fits,
        "excess_bytes": max(0, total - memory) if memory else 0,
        "largest_array_with_all_classes": largest["all_classes"],
        "images_per_second": _rate(phases, "hours"),
        "expected_images_per_second": _rate(phases, "expected_hours"),
        "bound_by": largest["bound_by"],
        "mfu": mfu,
        "hours": _added(hours[0], evaluation and evaluation["hours"]),
        "chip_hours": _times(_added(hours[0], evaluation and evaluation["hours"]), topology.chips),
        "expected_hours": _added(hours[1], evaluation and evaluation["expected_hours"]),
        "expected_chip_hours": _times(_added(hours[1], evaluation and evaluation["expected_hours"]), topology.chips),
        "data": {
            "images": sizes.train,
            "source": sizes.source,
            "bytes": pixels,
            "bytes_per_chip": -(-pixels // topology.chips),
            "fits_on_device": memory and fits and total - answer["batch"] + pixels / topology.chips <= memory,
        },
        "phases": phases,
        "evaluation": evaluation,
        "compile_seconds": sum(part["compile_seconds"] for part in parts),
    }


def phase_figures(phase: dict[str, Any], answer: dict[str, Any], topology: Topology, *, mfu: float) -> dict[str, Any]:
    """Figures of one program, a phase of training or the evaluation."""
    chip, images = topology.chip, phase["images"]
    common = {key: phase[key] for key in ("description", "steps", "images")} | {"compile_seconds": phase["seconds"]}
    if needed := phase.get("out_of_memory"):
        nothing = ("flops_per_image", "bytes_per_image", "memory_traffic_per_image", "seconds", "bound_by", "hours")
        return (
            common
            | dict.fromkeys(nothing)
            | {
                "expected_hours": None,
                "collectives": {},
                "all_classes": None,
                "code": 0,
                "temporary_bytes": max(0, needed["needed"] - sum(answer["state"].values()) - answer["batch"]),
                "total_bytes": needed["needed"],
                "available": needed["available"],
                "out_of_memory": True,
            }
        )
    memory = phase["memory"]
    per_chip = images / topology.chips
    sent = sum(one["sent"] for one in phase["collectives"].values())
    seconds = roofline_seconds(chip, flops=phase["flops"], traffic=phase["memory_traffic"], sent=sent)
    least = max(seconds.values()) if seconds else None
    expected = max(least, seconds["compute"] / mfu) if seconds else None
    return common | {
        "flops_per_image": phase["flops"] / per_chip,
        "bytes_per_image": phase["bytes"] / per_chip,
        "memory_traffic_per_image": phase["memory_traffic"] / per_chip,
        "temporary_bytes": memory["temporary"],
        "code": memory["code"],
        "total_bytes": total_bytes(memory),
        "available": None,
        "out_of_memory": False,
        "collectives": phase["collectives"],
        "all_classes": phase["all_classes"],
        "seconds": seconds,
        "bound_by": max(seconds, key=seconds.get) if seconds else None,
        "hours": _times(least, phase["steps"] / 3600),
        "expected_hours": _times(expected, phase["steps"] / 3600),
    }


def total_bytes(memory: dict[str, int]) -> int:
    """What a program holds on a chip while it runs; what it gives in place of what it takes counts once."""
    return memory["argument"] + memory["output"] - memory["alias"] + memory["temporary"] + memory["code"]


def roofline_seconds(chip: Chip | None, *, flops: float, traffic: float, sent: float) -> dict[str, float]:
    """The least time of a step by what takes it (Williams et al., CACM 2009), with the links between chips as a third
    roof; the longest is the bound, as if the others were hidden behind it. {} for a chip that is not known."""
    if chip is None:
        return {}
    seconds = {"compute": flops / chip.flops, "memory": traffic / chip.memory_bandwidth}
    return seconds | {"interconnect": sent / chip.interconnect_bandwidth if chip.interconnect_bandwidth else 0.0}


def advice(figures: dict[str, Any], *, remat: str, accumulate: int) -> list[str]:
    """What to change in a run that does not fit, the cheapest in speed first; `remat` and `accumulate` as they are."""
    if figures["fits"]:
        return []
    memory, mesh = figures["memory"], figures["mesh"]
    state = sum(memory.get(kind, 0) for kind in ("parameters", "optimizer", "averages"))
    ways = []
    if figures["chips"] > mesh["fsdp"] * mesh["model"] and state > figures["excess_bytes"] / 2:
        wanted = figures["chips"] // mesh["model"]
        ways.append(
            f"--config.mesh.fsdp={wanted} --config.mesh.data=-1 splits parameters, moments and averages "
            f"({state / 1e9:.2f} GB a chip now)"
        )
    if remat == "none":
        ways.append("--config.model.remat=blocks computes activations again, for about a third more FLOPs")
    ways.append(f"--config.optimizer.accumulate={2 * accumulate} takes the batch in parts, at the same FLOPs")
    ways.append("--config.batch_size: --largest_batch finds what fits; or more chips")
    return ways


def _sum(parts: list[dict[str, Any]], key: str) -> float | None:
    values = [part[key] for part in parts]
    return None if None in values else sum(values)


def _added(first: float | None, second: float | None) -> float | None:
    return None if first is None else first + (second or 0.0)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _rate(phases: list[dict[str, Any]], key: str) -> float | None:
    hours = _sum(phases, key)
    return sum(phase["images"] * phase["steps"] for phase in phases) / hours / 3600 if hours else None
