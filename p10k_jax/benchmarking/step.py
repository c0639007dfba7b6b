"""The training step: images a second, utilisation, roofline, memory, and how long it takes to compile."""

import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from p10k_jax import setup
from p10k_jax.benchmarking.subject import Subject
from p10k_jax.benchmarking.windows import time_windows
from p10k_jax.compilation_cache import kept_in
from p10k_jax.hardware import find, peak_flops, peak_memory
from p10k_jax.models.cost import training_flops
from p10k_jax.planning.compiled_figures import compiled_figures
from p10k_jax.planning.figures import total_bytes
from p10k_jax.program import PhaseProgram, Program
from p10k_jax.reporting.pace import Pace


def bench_step(subject: Subject, *, steps: int) -> dict[str, Any]:
    """Figures of each phase of the run, `phases`, with `steps` in a window; see `docs/speed.md`."""
    with tempfile.TemporaryDirectory(prefix="p10k_jax-") as folder, kept_in(Path(folder)):
        program, cold = _compiled(subject)
        _, cached = _compiled(subject)
    phases = []
    for (phase, compiled, seconds), (_, _, again) in zip(cold, cached, strict=True):
        figures = _phase(subject, program, phase, compiled, steps=steps)
        phases.append(figures | {"compile_seconds": {"cold": seconds, "cached": again}})
    return {"phases": phases, "peak_memory_bytes": peak_memory()}


def _compiled(subject: Subject) -> tuple[Program, list[tuple[PhaseProgram, jax.stages.Compiled, float]]]:
    jax.clear_caches()
    program, told = subject.program(), []
    for phase in program.phases:
        began = time.monotonic()
        told.append((phase, phase.lowered.compile(), time.monotonic() - began))
    return program, told


def _phase(subject: Subject, program: Program, phase: PhaseProgram, compiled, *, steps: int) -> dict[str, Any]:
    config, devices = subject.config, subject.mesh.devices.flat
    model_flops = training_flops(setup.make_model(config, padded=False), phase.image_size)
    pace = Pace(config.batch_size, peak_flops=peak_flops(devices))
    pace.work(model_flops)
    state = subject.init(program)

    def step(batch) -> jax.Array:
        nonlocal state
        state, metrics = compiled(state, batch.device, *subject.resident)
        return metrics["loss"]

    timed = time_windows(step, subject.training, pace, steps=steps)
    seconds = config.batch_size / timed["images_per_second"]
    told, chip = compiled_figures(compiled, config.model.padded_classes), find(devices[0].device_kind)
    per_device = config.batch_size / len(devices)
    return timed | {
        "description": phase.description,
        "image_size": phase.image_size,
        "batch_size": config.batch_size,
        "step_seconds": seconds,
        "flops_per_image": model_flops,
        "program_flops_per_image": told["flops"] / per_device,
        "bytes_per_image": told["memory_traffic"] / per_device,
        "memory_roofline": chip and told["memory_traffic"] / chip.memory_bandwidth / seconds,
        "program_bytes": total_bytes(told["memory"]),
    }
