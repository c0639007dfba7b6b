"""Trains a classifier. The same command again goes on where the last complete checkpoint stands.

    python -m p10k_jax.train --config=configs/vit.py:variant=S/16 --workdir=W [--config.batch_size=512 ...]

A run is a sequence of pure functions over plain pytrees; this page tells it from top to bottom.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict

from p10k_jax import hosts, pixels, recipe, setup
from p10k_jax.compilation_cache import keep_compiled
from p10k_jax.config import (
    as_plain,
    check_workdir,
    clear_errors,
    config_of_flags,
    define_config_flag,
    flat,
    resume_config,
    run_program,
    write_workdir,
)
from p10k_jax.data.batches import check_divides
from p10k_jax.data.classes import Classes, classes_of, write_classes
from p10k_jax.data.decode import DecodeReport
from p10k_jax.data.decoded import Decoded
from p10k_jax.data.order import Order
from p10k_jax.data.resident import abstract_resident, place
from p10k_jax.data.splits import Split, open_split
from p10k_jax.evaluation.metrics import metrics
from p10k_jax.facts import FILE as FACTS
from p10k_jax.facts import facts, read_facts, write_facts
from p10k_jax.hardware import peak_flops
from p10k_jax.models.cost import count_parameters, training_flops
from p10k_jax.models.registry import resolve as known_model
from p10k_jax.program import Program, training_program
from p10k_jax.reporting.meter import Meter
from p10k_jax.reporting.pace import Pace
from p10k_jax.reporting.progress import Console
from p10k_jax.reporting.run_page import keep_run_page
from p10k_jax.reporting.trackers import check_trackers, open_trackers
from p10k_jax.reporting.training_views import views_picture
from p10k_jax.reporting.writers import MetricWriter
from p10k_jax.training.checkpoint import Best, Checkpoints, has_checkpoint
from p10k_jax.training.duration import run_steps, to_steps
from p10k_jax.training.mesh import batch_sharding, make_mesh
from p10k_jax.training.state import State, evaluation_weights
from p10k_jax.weights.fit import same_part

_LEAST_ROWS = 20  # of metrics a run


class Run(NamedTuple):
    """A run that was checked and is ready to start; making one writes nothing but prepared data."""

    config: ConfigDict
    given: dict[str, Any]
    facts: Callable[[], dict[str, Any]]
    flops: Callable[[int], float]
    classes: Callable[[], Classes]
    workdir: Path
    mesh: Mesh
    split: Split
    decoded: Decoded | None
    total_steps: int
    due: Callable[[str, int], bool]
    init: Callable[[], State]
    program: Program
    order: Order
    validate: setup.Evaluator | None
    summary: str


def plan(config: ConfigDict, workdir: Path) -> Run:
    """Checks everything that can be checked before the first step, preparing the data if need be.

    Raises:
        ValueError: the input is bad; the message names the value and the way out, and `workdir` is untouched.
    """
    # -- Data
    given = as_plain(config)
    config = resume_config(config, workdir)
    known_model(config.model.name)
    check_trackers(config.log.trackers)
    mesh = make_mesh(**config.mesh)
    check_divides(config.batch_size, batch_sharding(mesh), parts=config.optimizer.accumulate)
    builder = setup.open_data(config)
    split = open_split(builder, config.data.train_split)
    setup.resolve(
        config,
        builder,
        split,
        recipe.preprocessing(config),
        num_groups=recipe.num_groups(config, builder, split),
        class_parts=mesh.shape["model"],
    )

    # -- Durations
    sizes = {"batch_size": config.batch_size, "num_examples": len(split)}
    total_steps = run_steps(config.duration, **sizes)
    in_steps = functools.partial(to_steps, total_steps=total_steps, **sizes)
    every = {
        # A short run too is a curve and not a dot.
        "log": min(in_steps(config.log.every, setting="log.every"), -(-total_steps // _LEAST_ROWS)),
        "eval": in_steps(config.eval.every, setting="eval.every"),
        "checkpoint": in_steps(config.checkpoint.every, setting="checkpoint.every"),
    }

    def due(what: str, step: int) -> bool:
        return step == total_steps or (every[what] > 0 and step % every[what] == 0)

    # -- Where the pixels are
    validation = open_split(builder, config.eval.split) if config.eval.split else None
    residency = pixels.choose_residency(config, builder, [split] if validation is None else [split, validation], mesh)
    resident = None
    if config.data.residency == "device":
        resident = abstract_resident(len(split), config.data.canvas_size, batch_sharding(mesh))

    # -- Model and the weights that it starts from
    model = setup.make_model(config, training=True)
    load = functools.cache(functools.partial(recipe.start_weights, config, model))
    pretrained = None if has_checkpoint(workdir / "checkpoints") else load()  # a resumed run needs no file
    if pretrained:
        with config.unlocked():
            config.model.weights_sha256 = pretrained.sha256
    check_workdir(workdir, as_plain(config))

    # -- The step
    program = training_program(
        config,
        model,
        mesh,
        class_counts=functools.partial(recipe.class_counts, config, builder, split),
        total_steps=total_steps,
        in_steps=in_steps,
        resident=resident,
    )
    validate = setup.make_evaluator(config, model, validation, mesh) if validation is not None else None
    setup.assert_space(workdir, program.state)
    # Decoding takes minutes, so it comes when nothing else can be refused.
    decoded = pixels.decoded(config, builder, split)
    if validate:
        validate = validate._replace(decoded=pixels.decoded(config, builder, validation))

    bare = setup.make_model(config, padded=False)

    # -- Values come last, so that nothing is ever whole on one device first
    def init() -> State:
        start = fit.weights if (fit := load()) else {}
        load.cache_clear()  # gigabytes that nobody needs again
        # A host gives its devices their shards alone; `device_put` would gather every array whole over all hosts.
        placed = jax.tree.map(
            lambda value, sharding: jax.make_array_from_callback(value.shape, sharding, lambda part: value[part]),
            *(start, same_part(program.shardings, start)),
        )
        return jax.jit(program.initial, out_shardings=program.shardings)(placed)

    return Run(
        config=config,
        given=given,
        facts=functools.partial(facts, bare, config.eval.image_size),
        flops=functools.partial(training_flops, bare),
        classes=functools.partial(classes_of, builder, split),
        workdir=workdir,
        mesh=mesh,
        split=split,
        decoded=decoded,
        total_steps=total_steps,
        due=due,
        init=init,
        program=program,
        order=recipe.order(config, builder, split, in_steps),
        validate=validate,
        summary=(
            f"{split.dataset} {split.name}: {len(split):,} images, {split.num_classes:,} classes\n"
            f"{config.model.name}: {count_parameters(bare):,} parameters\n"
            + (f"{pretrained}\n" if pretrained else "")
            + f"{setup.image_settings(config)}\n{residency}\n"
            + f"{program.parameter_table}\n"
            f"{total_steps:,} steps of {config.batch_size} images on {mesh.devices.size} x "
            f"{jax.devices()[0].device_kind}, mesh {dict(mesh.shape)}"
            + "".join(f"\n  {phase.description}" for phase in program.phases if len(program.phases) > 1)
        ),
    )


def train(run: Run, console: Console) -> State:
    """Trains from the last complete checkpoint, or from the start, to the end; returns the final state."""
    config, workdir = run.config, run.workdir
    writes = jax.process_index() == 0
    if writes:
        write_workdir(workdir, as_plain(config), run.given)
        if not (workdir / FACTS).exists():
            write_facts(workdir, run.facts() | {"total_steps": run.total_steps})
            write_classes(workdir, run.classes())
    checkpoints = Checkpoints(workdir / "checkpoints", metric="top1")
    resumed_at = max(checkpoints.steps(), default=0)
    state = checkpoints.restore(resumed_at, run.program.state) if resumed_at else run.init()
    best = checkpoints.best()
    console.say(run.summary + (f"; goes on after step {resumed_at:,}" if resumed_at else ""))

    report = DecodeReport()
    make_batches = functools.partial(pixels.training_batches, config, run.split, run.decoded, run.mesh, order=run.order)
    batches = make_batches(steps=range(resumed_at, run.total_steps), report=report)
    resident = (place(run.decoded, batch_sharding(run.mesh)),) if config.data.residency == "device" else ()
    writer = None
    if writes:
        settings = {"project": config.log.project, "resumed_at": resumed_at, "say": console.say}
        trackers = open_trackers(config.log.trackers, workdir, **settings)
        writer = MetricWriter(workdir, resumed_at=resumed_at, trackers=trackers)
        writer.settings(flat(as_plain(config)), read_facts(workdir))
    peak = peak_flops(run.mesh.devices.flat)
    pace = Pace(config.batch_size, peak_flops=peak)
    meter = Meter(
        console,
        writer,
        pace=pace,
        resumed_at=resumed_at,
        total_steps=run.total_steps,
        log_due=functools.partial(run.due, "log"),
    )
    phases = iter(run.program.phases)
    until = 0
    for step, batch in enumerate(meter.timed(batches), start=resumed_at + 1):
        while step > until:
            phase = next(phases)
            until = phase.until
            if step <= until:
                meter.flush()
                console.live("compiling the training step ...")
                train_step = phase.lowered.compile()
                pace.work(run.flops(phase.image_size) if peak else None)
                if writer and writer.shows_pictures:
                    look = {"views": phase.views, "statistics": setup.normalisation(config)}
                    shown = batch
                    if resident:
                        [shown] = make_batches(steps=range(step - 1, step), report=DecodeReport(), with_images=True)
                    writer.picture(step, "training_views", views_picture(state["key"], step - 1, shown.device, **look))
                meter.begin_window()
        with jax.transfer_guard("disallow"):
            state, step_metrics = train_step(state, batch.device, *resident)
        meter.step(step, step_metrics)  # reports the step before, while the device works on this one

        if run.validate and run.due("eval", step):
            meter.flush()
            table, _ = run.validate(*evaluation_weights(state))
            figures = metrics(table)
            best = max(filter(None, [best, Best(figures["top1"], step)]))
            meter.validated(step, config.eval.split, figures, best.value)
            if writer:
                keep_run_page(workdir, console.say)
            checkpoints.save(state, step=step, metrics=figures)
        elif run.due("checkpoint", step):
            meter.flush()
            checkpoints.save(state, step=step)

    meter.flush()
    checkpoints.close()
    if writer:
        writer.close()
        keep_run_page(workdir, console.say)
    if report.counts.any():
        console.say(str(report))
    if best:
        console.say(f"{config.eval.split} top-1 {best.value:.4f} at step {best.step:,} of {run.total_steps:,}")
    folders = "".join(f", {name}/" for name in config.log.trackers if (workdir / name).is_dir())
    console.say(f"Everything lies in {workdir}: config.json, checkpoints/, metrics.jsonl{folders}, report.html")
    return state


def main() -> None:
    """Reads the flags and trains."""
    given = flags.FLAGS
    with hosts.joined(given.multihost, peer_seconds=given.peer_seconds):
        keep_compiled()
        with clear_errors():
            run = plan(config_of_flags(), setup.local_folder(given.workdir, setting="workdir"))
        hosts.wait_for_all()  # a process that is still looking at the workdir must find it as it was
        train(run, Console())


def define_flags() -> None:
    """Defines this program's flags."""
    define_config_flag()
    flags.DEFINE_string("workdir", None, "Folder of the run; goes on if it holds one of the same config.")
    hosts.define_host_flags()


if __name__ == "__main__":
    run_program(main, define_flags, required=("config", "workdir"))
