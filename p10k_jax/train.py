"""Trains a classifier. The same command again goes on where the last complete checkpoint stands.

    python -m p10k_jax.train --config=configs/vit.py:variant=S/16 --workdir=W [--config.batch_size=512 ...]

A run is a sequence of pure functions over plain pytrees; this page tells it from top to bottom.
"""

import functools
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from p10k_jax import setup
from p10k_jax.config import (
    as_plain,
    check_workdir,
    clear_errors,
    define_flag,
    flag_value,
    run_program,
    write_workdir,
)
from p10k_jax.data.batches import check_divides, global_batches
from p10k_jax.data.decode import DecodeReport
from p10k_jax.data.splits import open_split
from p10k_jax.evaluation.metrics import metrics
from p10k_jax.reporting.meter import Meter
from p10k_jax.reporting.progress import Console
from p10k_jax.reporting.writers import MetricWriter
from p10k_jax.training.checkpoint import Best, Checkpoints, abstract_state
from p10k_jax.training.duration import run_steps, to_steps
from p10k_jax.training.losses import make_loss
from p10k_jax.training.mesh import batch_sharding, make_mesh, replicated, state_shardings
from p10k_jax.training.optimizer import make_optimizer, warmup_cosine
from p10k_jax.training.patterns import check_patterns
from p10k_jax.training.state import State, evaluation_weights, initial_state
from p10k_jax.training.step import make_train_step
from tfds_builder.prepare import prepare

CONFIG = define_flag()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; resumes if it holds one of the same config.")


def train(config: ConfigDict, workdir: Path, console: Console) -> State:
    """Runs to the end and returns the final state.

    Raises:
        ValueError: the input is bad; nothing was written to `workdir`.
    """
    # -- Data ---------------------------------------------------------------------------------------------------------
    mesh = make_mesh(**config.mesh)
    check_divides(config.batch_size, batch_sharding(mesh))
    builder = prepare(
        config.data.name,
        config=config.data.config,
        data_dir=config.data.data_dir,
        manual_dir=config.data.manual_dir,
    )
    split = open_split(builder, config.data.train_split)
    with config.unlocked():
        config.model.num_classes = config.model.num_classes or split.num_classes

    # -- Model, optimizer, step ---------------------------------------------------------------------------------------
    sizes = {"batch_size": config.batch_size, "num_examples": len(split)}
    total_steps = run_steps(config.duration, **sizes)
    in_steps = functools.partial(to_steps, total_steps=total_steps, **sizes)
    schedule = warmup_cosine(
        peak=config.optimizer.learning_rate,
        warmup_steps=in_steps(config.schedule.warmup, setting="schedule.warmup"),
        total_steps=total_steps,
        end=config.schedule.end,
    )
    model = setup.make_model(config, split)
    shapes, _ = jax.eval_shape(model.init, jax.random.key(0))
    optimizer_settings = {key: value for key, value in config.optimizer.items() if key not in ("name", "learning_rate")}
    optimizer, decay_table = make_optimizer(config.optimizer.name, schedule, shapes, **optimizer_settings)
    train_step = make_train_step(
        model,
        optimizer,
        loss=make_loss(**config.loss),
        views=setup.make_training_views(config),
        schedule=schedule,
        ema_decay=config.ema_decay,
    )
    validate = setup.make_evaluator(config, model, open_split(builder, config.eval.split), mesh)
    check_divides(validate.batch_size, batch_sharding(mesh))

    # -- State: shapes, then shardings, then values; nothing is ever whole on one device ------------------------------
    init = functools.partial(initial_state, model, optimizer, seed=config.seed, ema=config.ema_decay > 0)
    state_shapes = jax.eval_shape(init)
    check_patterns(config.sharding_rules, state_shapes, setting="sharding_rules")
    shardings = state_shardings(mesh, state_shapes, config.sharding_rules)
    train_step = jax.jit(
        train_step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )

    # -- Start or resume ----------------------------------------------------------------------------------------------
    check_workdir(workdir, as_plain(config))
    if jax.process_index() == 0:
        write_workdir(workdir, as_plain(config))
    checkpoints = Checkpoints(workdir / "checkpoints", metric="top1")
    resumed_at = max(checkpoints.steps(), default=0)
    if resumed_at:
        state = checkpoints.restore(resumed_at, abstract_state(state_shapes, shardings))
    else:
        state = jax.jit(init, out_shardings=shardings)()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    console.say(
        f"{config.model.name}: {parameters:,} parameters, {config.model.num_classes:,} classes; {split.dataset} "
        f"{split.name}: {len(split):,} images\n{decay_table}\n"
        f"mesh {dict(mesh.shape)} of {jax.devices()[0].device_kind}; {total_steps:,} steps of {config.batch_size}"
        + (f"; goes on after step {resumed_at:,}" if resumed_at else "")
    )

    # -- The loop -----------------------------------------------------------------------------------------------------
    every = {
        "log": in_steps(config.log.every, setting="log.every"),
        "eval": in_steps(config.eval.every, setting="eval.every"),
        "checkpoint": in_steps(config.checkpoint.every, setting="checkpoint.every"),
    }

    def due(what: str, step: int) -> bool:
        return step == total_steps or (every[what] > 0 and step % every[what] == 0)

    report = DecodeReport()
    batches = global_batches(
        split,
        sharding=batch_sharding(mesh),
        batch_size=config.batch_size,
        canvas_size=setup.canvas_size(config),
        steps=range(resumed_at, total_steps),
        loading=setup.loading(config),
        seed=config.seed,
        report=report,
    )
    writer = MetricWriter(workdir, resumed_at=resumed_at) if jax.process_index() == 0 else None
    meter = Meter(
        console,
        writer,
        batch_size=config.batch_size,
        resumed_at=resumed_at,
        total_steps=total_steps,
        log_due=functools.partial(due, "log"),
    )
    best = checkpoints.best()
    console.live("compiling the training step ...")
    for step, batch in enumerate(meter.timed(batches), start=resumed_at + 1):
        with jax.transfer_guard("disallow"):
            state, step_metrics = train_step(state, batch.device)
        meter.step(step, step_metrics)  # reports the step before, while the device works on this one

        if due("eval", step):
            meter.flush()
            table, _ = validate(*evaluation_weights(state))
            figures = metrics(table)
            best = max(filter(None, [best, Best(figures["top1"], step)]))
            meter.validated(figures["top1"], best.value)
            if writer:
                writer.write(step, {f"{config.eval.split}/{key}": value for key, value in figures.items()})
            checkpoints.save(state, step=step, metrics=figures)
        elif due("checkpoint", step):
            meter.flush()
            checkpoints.save(state, step=step)

    # -- The end ------------------------------------------------------------------------------------------------------
    meter.flush()
    checkpoints.close()
    if writer:
        writer.close()
    if report.counts.any():
        console.say(str(report))
    console.say(f"{config.eval.split} top-1 {best.value:.4f} at step {best.step:,} of {total_steps:,}")
    console.say(f"Everything lies in {workdir}: config.json, checkpoints/, metrics.jsonl, tensorboard/")
    return state


def main(arguments: list[str]) -> None:
    """Reads the flags and trains."""
    if len(arguments) > 1:
        raise SystemExit(f"error: unexpected arguments {arguments[1:]}; settings are given as --config.key=value")
    if WORKDIR.value is None or CONFIG.value is None:
        raise SystemExit("error: give --config=FILE and --workdir=FOLDER")
    with clear_errors():
        train(flag_value(CONFIG), Path(WORKDIR.value), Console())


if __name__ == "__main__":
    run_program(main)
