"""Trains a classifier. The same command again goes on where the last complete checkpoint stands.

    python -m p10k_jax.train --config=configs/vit.py:variant=S/16 --workdir=W [--config.batch_size=512 ...]

A run is a sequence of pure functions over plain pytrees; this page tells it from top to bottom.
"""

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict

from p10k_jax import buckets, hosts, pixels, recipe, setup
from p10k_jax.compilation_cache import keep_compiled
from p10k_jax.config import (
    as_plain,
    check_workdir,
    clear_errors,
    config_of_flags,
    config_of_hosts,
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
from p10k_jax.files import write_json
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
from p10k_jax.stopping import LostFiles, Stop, Stopped, exit_codes
from p10k_jax.training.checkpoint import Checkpoints, has_checkpoint, restore_latest
from p10k_jax.training.divergence import Diverged, DivergenceWatch
from p10k_jax.training.duration import run_steps, to_steps
from p10k_jax.training.mesh import batch_sharding, make_mesh
from p10k_jax.training.saving import Saves
from p10k_jax.training.state import State, evaluation_weights
from p10k_jax.weights.fit import same_part

DIVERGED = "diverged.json"

Push = Callable[[float | None], bool]
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


def train(run: Run, console: Console, stop: Stop | None = None, *, push: Push = lambda seconds: True) -> State:
    """Trains from the last complete checkpoint, or from the start, to the end; returns the final state.

    Args:
        run: Of `plan`.
        console: For what a person sees.
        stop: Whether to end before; default: never.
        push: Sends what was written to where it is kept, and waits for it, at most so many seconds, or as long as is
            usual (None).

    Raises:
        Stopped: as `stop` said; the run is saved.
        Diverged: the loss, a gradient or the state is not finite, or the loss explodes; the checkpoints are of before
            that, and `diverged.json` tells where.
        LostFiles: it came to its end, but not all that it should have left could be written.
        NotShared: another process does not see the workdir.
        UnreadableCheckpoint: it cannot go on, for no checkpoint can be read.
    """
    config, workdir, stop = run.config, run.workdir, stop or Stop()
    folder, writes = workdir / "checkpoints", jax.process_index() == 0
    if writes:
        _write_what_is_known(run)
    if not buckets.url_of(workdir):
        hosts.assert_shared(workdir / "config.json")
    limit = config.checkpoint.time_limit
    restore = functools.partial(restore_latest, folder, run.program.state, metric="top1", say=console.say)
    restored, resumed_at = stop.during(restore, at_most=limit)
    start = restored if resumed_at else stop.during(run.init)
    open_checkpoints = functools.partial(Checkpoints, folder, metric="top1", time_limit=limit)
    saves = Saves(open_checkpoints, time_limit=limit, say=console.say)
    console.say(run.summary + (f"; goes on after step {resumed_at:,}" if resumed_at else ""))
    # A run that was told to end in the middle of an evaluation begins with it.
    owes = bool(resumed_at and run.validate and run.due("eval", resumed_at) and not saves.evaluated(resumed_at))
    writer = _open_writer(run, resumed_at, console, owes=owes) if writes else None
    meter = _make_meter(run, resumed_at, console, writer)
    report, step, state = DecodeReport(), resumed_at, start

    def evaluate_and_save() -> None:
        meter.flush()
        console.live(f"evaluating {config.eval.split} ...")
        validate = functools.partial(run.validate, *evaluation_weights(state), progress=lambda *_: stop.check())
        table, _ = stop.during(validate)
        figures = metrics(table)
        meter.validated(step, config.eval.split, figures, saves.seen(figures["top1"], step).value)
        if writer:
            keep_run_page(workdir, console.say)
        push(None)  # whoever goes on from a checkpoint has the rows of all steps before it
        saves.save(state, step=step, metrics=figures)  # last: what is saved is not evaluated again

    try:
        with stop.deferred():
            if owes:
                evaluate_and_save()
            for step, state in _steps(run, start, resumed_at, report, meter, writer, stop):
                if run.validate and run.due("eval", step):
                    evaluate_and_save()
                elif run.due("checkpoint", step):
                    meter.flush()
                    push(None)
                    saves.save(state, step=step)
                if stop.asked():
                    meter.flush()
                    raise stop.stopped()
            meter.flush()
    except Stopped:
        if step > saves.newest:
            console.say(f"told to end: saving step {step:,}")
            push(0.0)  # there is little time
            saves.save(state, step=step)
        _close(run, saves, writer, console)
        raise
    except FloatingPointError as error:
        _close(run, saves, writer, console)
        raise _diverged(run, step, error, saves.saved) from error

    with stop.deferred():  # it is done but for the last save
        _close(run, saves, writer, console)
    if report.counts.any():
        console.say(str(report))
    if best := saves.best:
        console.say(f"{config.eval.split} top-1 {best.value:.4f} at step {best.step:,} of {run.total_steps:,}")
    folders = "".join(f", {name}/" for name in config.log.trackers if (workdir / name).is_dir())
    where = buckets.url_of(workdir) or workdir
    console.say(f"Everything lies in {where}: config.json, checkpoints/, metrics.jsonl{folders}, report.html")
    _complain_of_losses(saves, writer)
    return state


def _steps(
    run: Run,
    state: State,
    resumed_at: int,
    report: DecodeReport,
    meter: Meter,
    writer: MetricWriter | None,
    stop: Stop,
) -> Iterator[tuple[int, State]]:
    """Trains; yields after each step its number and the state, which the next step takes."""
    source = (run.config, run.split, run.decoded, run.mesh)
    make_batches = functools.partial(pixels.training_batches, *source, order=run.order)
    batches = make_batches(steps=range(resumed_at, run.total_steps), report=report)
    resident = (place(run.decoded, batch_sharding(run.mesh)),) if run.config.data.residency == "device" else ()
    phases = iter(run.program.phases)
    until = 0
    for step, batch in enumerate(meter.timed(batches), start=resumed_at + 1):
        while step > until:
            phase = next(phases)
            until = phase.until
            if step <= until:
                meter.flush()
                meter.compiling(phase.image_size)
                train_step = stop.during(phase.lowered.compile)
                if writer and writer.shows_pictures:
                    look = {"views": phase.views, "statistics": setup.normalisation(run.config)}
                    shown = batch
                    if resident:
                        [shown] = make_batches(steps=range(step - 1, step), report=DecodeReport(), with_images=True)
                    writer.picture(step, "training_views", views_picture(state["key"], step - 1, shown.device, **look))
                meter.begin_window()
        with jax.transfer_guard("disallow"):
            state, step_metrics = train_step(state, batch.device, *resident)
        meter.step(step, step_metrics)  # reports the step before, while the device works on this one
        yield step, state


def _write_what_is_known(run: Run) -> None:
    write_workdir(run.workdir, as_plain(run.config), run.given)
    (run.workdir / DIVERGED).unlink(missing_ok=True)
    if not (run.workdir / FACTS).exists():
        write_facts(run.workdir, run.facts() | {"total_steps": run.total_steps})
        write_classes(run.workdir, run.classes())


def _open_writer(run: Run, resumed_at: int, console: Console, *, owes: bool) -> MetricWriter:
    settings = {"project": run.config.log.project, "resumed_at": resumed_at, "say": console.say}
    trackers = open_trackers(run.config.log.trackers, run.workdir, **settings)
    owed = f"{run.config.eval.split}/" if owes else None
    writer = MetricWriter(run.workdir, resumed_at=resumed_at, owed=owed, trackers=trackers, say=console.say)
    writer.settings(flat(as_plain(run.config)), read_facts(run.workdir))
    return writer


def _make_meter(run: Run, resumed_at: int, console: Console, writer: MetricWriter | None) -> Meter:
    peak = peak_flops(run.mesh.devices.flat)
    return Meter(
        console,
        writer,
        pace=Pace(run.config.batch_size, peak_flops=peak),
        flops=run.flops if peak else lambda image_size: None,
        resumed_at=resumed_at,
        total_steps=run.total_steps,
        log_due=functools.partial(run.due, "log"),
        watch=DivergenceWatch(skips=recipe.skips_not_finite(run.config)),
    )


def _close(run: Run, saves: Saves, writer: MetricWriter | None, console: Console) -> None:
    saves.finish()
    if writer:
        writer.close()
        keep_run_page(run.workdir, console.say)


def _diverged(run: Run, step: int, error: FloatingPointError, last_checkpoint: int) -> Diverged:
    """The complaint about a run that diverged; where is also written into the workdir."""
    found = error if isinstance(error, Diverged) else Diverged(step, str(error), {})
    size = run.config.batch_size
    indices, real = run.order((found.step - 1) * size + np.arange(size))
    figures = {key: value if math.isfinite(value) else str(value) for key, value in found.figures.items()}
    where = {"step": found.step, "reason": found.reason, "metrics": figures, "last_checkpoint": last_checkpoint}
    if jax.process_index() == 0:
        names = [run.split.read(int(index)).name for index in indices[real]]
        write_json(run.workdir / DIVERGED, where | {"images": names})
    return Diverged(
        found.step,
        f"{found.reason}. The last checkpoint is of step {last_checkpoint:,}, which was in order; "
        f"{run.workdir / DIVERGED} names the images of the step. The same command comes to the same end: lower "
        "optimizer.learning_rate in another workdir, or leave such steps out with --config.not_finite=skip.",
        found.figures,
    )


def _complain_of_losses(saves: Saves, writer: MetricWriter | None) -> None:
    """Raises LostFiles where there is something to complain of."""
    lost = [f"the checkpoints of steps {saves.lost}"] if saves.lost else []
    lost += ["rows of metrics.jsonl"] if writer and writer.lost else []
    if lost:
        raise LostFiles(f"{' and '.join(lost)} could not be written; the last checkpoint is of step {saves.saved:,}")


def main() -> None:
    """Reads the flags and trains."""
    given, stop = flags.FLAGS, Stop()
    with hosts.joined(given.multihost, peer_seconds=given.peer_seconds), exit_codes(), stop.listening():
        keep_compiled()
        with hosts.refused_by_all(), clear_errors():  # all have looked at the workdir before one writes there
            workdir = buckets.opened(given.workdir, setting="workdir", writes=jax.process_index() == 0)
            run = plan(config_of_flags(), workdir.folder)
            hosts.assert_same("config", config_of_hosts(run.config))
        with workdir:
            train(run, Console(), stop, push=workdir.push)


def define_flags() -> None:
    """Defines this program's flags."""
    define_config_flag()
    flags.DEFINE_string(
        "workdir", None, "Of the run: a folder or gs://BUCKET/PATH; goes on if it holds one of the same config."
    )
    hosts.define_host_flags()


if __name__ == "__main__":
    run_program(main, define_flags, required=("config", "workdir"))
