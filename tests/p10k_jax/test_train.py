"""Whole runs: what they leave, what they refuse, and that a killed one ends as an undisturbed one."""

import json
import os
import re
import shutil
import signal
import time

import jax
import numpy as np
import pytest
import safetensors.numpy

from configs.products10k import second_stage
from p10k_jax.config import read_workdir
from p10k_jax.facts import read_facts
from p10k_jax.finished import open_run
from p10k_jax.reporting.progress import Console
from p10k_jax.reporting.writers import read_metrics
from p10k_jax.train import plan, train
from p10k_jax.training.checkpoint import Checkpoints
from p10k_jax.weights.state_dict import to_timm
from tests.runs import flags, start, tiny_config


def test_what_a_run_leaves(finished):
    workdir, state = finished
    assert sorted(path.name for path in workdir.iterdir()) == [
        "checkpoints",
        "classes.csv",
        "config.json",
        "metrics.jsonl",
        "report.html",
        "run.json",
        "tensorboard",
    ]
    told = read_facts(workdir)
    assert told["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(state["params"]))
    assert (told["devices"], told["hosts"], told["image_size"], told["total_steps"]) == (8, 1, 32, 30)
    assert told["versions"]["jax"] == jax.__version__
    config = read_workdir(workdir)
    assert (config.model.name, config.model.num_classes, config.duration.steps) == ("vit-Ti/8", 6, 30)
    rows = read_metrics(workdir / "metrics.jsonl")
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 30
    np.testing.assert_allclose(losses[0], np.log(6), rtol=0.02)  # the head is zero; label smoothing changes nothing
    assert (np.diff([row["seconds"] for row in rows]) >= 0).all()
    assert [row["step"] for row in rows if "validation/top1" in row] == [6, 12, 18, 24, 30]
    checkpoints = Checkpoints(workdir / "checkpoints", metric="top1", read_only=True)
    accuracies = {row["step"]: row["validation/top1"] for row in rows if "validation/top1" in row}
    assert checkpoints.best().value == max(accuracies.values())
    assert checkpoints.steps() == sorted({checkpoints.best().step, 27, 30})
    assert int(state["step"]) == 30
    assert list((workdir / "tensorboard").iterdir())


def test_a_finished_run_started_again_changes_nothing(finished, tiny_data):
    workdir, state = finished
    before = (workdir / "metrics.jsonl").read_text()
    again = train(plan(tiny_config(tiny_data), workdir), Console())
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again["params"]), state["params"])
    assert (workdir / "metrics.jsonl").read_text() == before


def wait_until(condition, process, seconds=120.0):
    """Waits; fails if the process ends first."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def reached(workdir, step):
    return lambda: any(row["step"] >= step for row in read_metrics(workdir / "metrics.jsonl"))


def saving(workdir):
    return lambda: any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"))


# Moments at which the run is killed, one after the other, each in a process of its own that goes on from what is left:
# before the first checkpoint, while a checkpoint is being written, in the middle, while another is being written, and
# near the end.
MOMENTS = {
    "before any checkpoint": lambda workdir: reached(workdir, 1),
    "during the first save": saving,
    "in the middle": lambda workdir: reached(workdir, 14),
    "during a later save": saving,
    "near the end": lambda workdir: reached(workdir, 28),
}


@pytest.mark.parametrize(
    "moments", [pytest.param(list(MOMENTS), marks=pytest.mark.long), ["during the first save"]], ids=["all", "save"]
)
def test_killed_and_resumed_is_bitwise_undisturbed(finished, tiny_data, tmp_path, tmp_path_factory, moments):
    undisturbed, state = finished
    workdir = tmp_path / "workdir"
    cache = tmp_path_factory.getbasetemp() / "compiled"
    environment = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    arguments = flags(tiny_data, workdir)
    for moment in moments:
        process = start("train", arguments, **environment)
        wait_until(MOMENTS[moment](workdir), process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, moment
    process = start("train", arguments, **environment)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output

    expected = plan(tiny_config(tiny_data), undisturbed)
    resumed = Checkpoints(workdir / "checkpoints", metric="top1", read_only=True).restore(30, expected.program.state)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), state)

    def losses(folder):
        rows = read_metrics(folder / "metrics.jsonl")
        return [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]

    assert losses(workdir) == losses(undisturbed)
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == sorted(
        path.name for path in (undisturbed / "checkpoints").iterdir()
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.name": "prodcts10k"}, r"unknown dataset 'prodcts10k'.*Close names: products10k"),
        ({"data.config": "teeny"}, r"unknown config 'teeny'.*tiny"),
        ({"data.train_split": "trian"}, r"no split 'trian'. Did you mean 'train'\? Known: train, validation, test"),
        ({"eval.split": "val"}, r"no split 'val'.*Known: train, validation, test"),
        ({"model.name": "vit-Ti"}, r"Unknown model 'vit-Ti'. Did you mean .* Known: vit-Ti/\{patch\}"),
        ({"model.num_classes": 3}, r"model.num_classes=3, but drawn_catalogue/tiny has 6 classes"),
        ({"model.dtype": "float8"}, r"model.dtype='float8' is unknown; known: auto, float32, bfloat16"),
        ({"batch_size": 12}, r"batch_size=12 does not divide over the 8 batch shards.*try 8 or 16"),
        ({"eval.batch_size": 12}, r"batch_size=12 does not divide over the 8 batch shards"),
        ({"mesh.data": 3}, r"mesh data=3, fsdp=1, model=1 does not fit 8 devices"),
        ({"data.residency": "gpu"}, r"data.residency='gpu' is unknown; known: auto, stream, host, device"),
        ({"data.canvas_size": 16}, r"data.canvas_size=16 must be at least data.image_size=32"),
        ({"eval.crop": 1.5}, r"eval.crop=1.5 is outside 0..1"),
        ({"duration.steps": None}, r"duration=\{\}: give exactly one of steps, epochs, examples, percent"),
        ({"optimizer.name": "adam"}, r"Unknown optimizer 'adam'. Known: adamw, adafactor, lamb, lion, muon, sgd"),
        ({"loss.name": "hinge"}, r"Unknown loss 'hinge'. Known: softmax"),
        ({"sharding_rules": (("gamma", "fsdp"),)}, r"sharding_rules: pattern 'gamma' matches no parameter"),
        ({"data.manual_dir": "/nowhere"}, r"takes no manual_dir"),
        ({"data.data_dir": "s3://bucket/data"}, r"data.data_dir=s3://bucket/data is no known address"),
        ({"seed": -1}, r"seed=-1 is outside 0\.\.2\*\*32-1"),
        ({"ema_decay": 1.0}, r"ema_decay=1.0 is outside \[0, 1\)"),
        ({"augment.crop_scale": (0.0, 1.0)}, r"augment.crop_scale=\(0.0, 1.0\) must be two areas"),
        ({"augment.crop_ratio": (2.0, 1.0)}, r"augment.crop_ratio=\(2.0, 1.0\) must be two ratios"),
        ({"augment.flip": 2.0}, r"augment.flip=2.0 must be a probability"),
        ({"augment.mix.mixup_alpha": -1.0}, r"augment.mix.mixup_alpha=-1.0"),
        ({"augment.randaugment.num_ops": 2, "augment.augmix.width": 3}, "set one of them to 0"),
        ({"data.low_image_size": 64, "data.canvas_size": 40}, r"data.canvas_size=40 must be at least data.low_image"),
        ({"data.low_image_size": 20}, r"Images of 20 x 20 pixels do not divide into patches of 8"),
        ({"eval.image_size": 20}, r"Images of 20 x 20 pixels do not divide into patches of 8"),
        ({"data.mean": (0.5, 0.5)}, r"data.mean=\(0.5, 0.5\).*three numbers each are needed"),
        ({"sampling.name": "even"}, r"sampling.name='even' is unknown; known: class, sqrt, group"),
        ({"head.name": "proxy"}, r"head.name='proxy' is unknown; known: linear, cosine"),
        ({"loss.margin": "arcface"}, r"loss.margin='arcface' needs head.name='cosine'"),
        ({"optimizer.accumulate": 3}, r"batch_size=16, taken in 3 parts, does not divide over the 8 .*try 24 or 48"),
        ({"optimizer.head_first.steps": 15}, r"optimizer.head_first is 15 steps of 30.*less than half"),
        ({"data.low_image_size": 16, "data.low_until.percent": 100.0}, r"data.low_until is 30 steps .* of 30"),
        ({"sampling.name": "class", "loss.logit_adjustment": 1.0}, r"both even out how often classes come; choose one"),
        ({"sampling.after.percent": 50.0}, r"sampling.after needs sampling.name"),
        ({"schedule.name": "step"}, r"Unknown schedule.name='step'"),
        ({"model.weights": "/nowhere.safetensors"}, r"nowhere.safetensors: there is no such file"),
        ({"model.weights": "x.pth"}, r"x.pth"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tiny_data, tmp_path, overrides, message):
    workdir = tmp_path / "workdir"
    with pytest.raises(ValueError, match=message):
        plan(tiny_config(tiny_data, **overrides), workdir)
    assert not workdir.exists()


def test_workdir_of_another_config(finished, tiny_data):
    workdir, _ = finished
    before = (workdir / "config.json").read_bytes()
    with pytest.raises(
        ValueError, match=r"holds a run of another config:\n  batch_size: 16 -> 8\n  seed: 0 -> 5\nGive"
    ):
        plan(tiny_config(tiny_data, batch_size=8, seed=5), workdir)
    assert (workdir / "config.json").read_bytes() == before
    # What changes no number may change: the logging, the mesh, the place of the data.
    plan(tiny_config(tiny_data, **{"log.every.steps": 7, "mesh.fsdp": 2}), workdir)


def test_a_run_does_not_go_on_with_what_an_earlier_one_was_given(finished, tiny_data, tmp_path):
    workdir = tmp_path / "workdir"
    shutil.copytree(finished[0], workdir)
    record = json.loads((workdir / "config.json").read_text())
    record["duration"]["percent"] = record["given"]["duration"]["percent"] = 10.0
    record["given"]["data"]["image_size"] = 64
    (workdir / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"data\.image_size: 64 -> 32\n  duration\.percent: 10\.0 -> None\nGive"):
        plan(tiny_config(tiny_data), workdir)
    # Another unit for what may change is no other config.
    epochs = {"log.every.steps": None, "log.every.epochs": 1.0}
    assert plan(tiny_config(tiny_data, **epochs), finished[0]).due("log", 4)


def test_pixels_from_anywhere_train_the_same(finished, tiny_data, tmp_path):
    """Streamed for four steps, then, as a run that goes on, on the devices; the undisturbed run had a memory map."""
    undisturbed, _ = finished
    assert read_workdir(undisturbed).data.residency == "host"  # what auto gives on a CPU
    workdir = tmp_path / "workdir"
    for residency, stop in (("stream", 4), ("device", 8)):
        run = plan(tiny_config(tiny_data, **{"data.residency": residency}), workdir)
        train(
            run._replace(total_steps=stop, due=lambda what, step, stop=stop: what == "log" or step == stop), Console()
        )
        assert read_workdir(workdir).data.residency == residency
    assert "pixels: on the device, 0.0 MB a device, as asked" in run.summary
    (ours, theirs) = (
        [row["train/loss"] for row in read_metrics(folder / "metrics.jsonl") if "train/loss" in row][:8]
        for folder in (workdir, undisturbed)
    )
    assert ours[:4] == theirs[:4]
    # Bitwise too where it was tried; but the compiler is free to fuse the gather into what follows.
    np.testing.assert_allclose(ours[4:], theirs[4:], rtol=1e-6)
    hlo = run.program.phases[0].lowered.compile().as_text()
    bytes_moved = [
        int(np.prod([int(size) for size in shape.split(",")]))
        for line in hlo.splitlines()
        if re.search(r"(all-\w+|reduce-scatter|collective-\w+)\(", line)
        for shape in re.findall(r"\bu8\[([\d,]+)\]", line)
    ]
    assert bytes_moved
    assert max(bytes_moved) <= 16 * 37 * 37 * 3  # a batch; the split is 3.5 of them


def test_no_space_left(tiny_data, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(ValueError, match=r"no space left: checkpoints take up to 0\.00 GB, but .* has 0\.00 GB free"):
        plan(tiny_config(tiny_data), tmp_path / "workdir")
    assert not (tmp_path / "workdir").exists()


def test_without_validation_there_is_no_best(tiny_data, tmp_path):
    overrides = {"eval.split": "", "duration.steps": 2, "data.train_split": "train+validation"}
    run = plan(tiny_config(tiny_data, **overrides), tmp_path / "workdir")
    assert len(run.split) == 60
    train(run, Console())
    checkpoints = Checkpoints(tmp_path / "workdir" / "checkpoints", metric="top1", read_only=True)
    assert (checkpoints.steps(), checkpoints.best()) == ([1, 2], None)


def test_workdir_that_is_something_else(tiny_data, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"holds thesis\.tex but no config\.json; give an empty folder"):
        plan(tiny_config(tiny_data), tmp_path)
    with pytest.raises(ValueError, match=r"is a file; give a folder"):
        plan(tiny_config(tiny_data), tmp_path / "thesis.tex")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.optimizer.learnig_rate=1.0", 'Did you mean "learning_rate"'),
        ("--config.batch_size=many", "--config.batch_size=many"),
        ("--config.duration.steps=5", None),
    ],
)
def test_command_line(tiny_data, tmp_path, argument, message):
    workdir = tmp_path / "workdir"
    process = start("train", [*flags(tiny_data, workdir), "--config.duration.percent=10.0", argument])
    output, _ = process.communicate(timeout=300)
    if message is None:
        assert process.returncode == 0, output
        assert json.loads((workdir / "config.json").read_text())["duration"]["steps"] == 5
        return
    assert process.returncode == 2, output
    assert message in output
    assert "Traceback" not in output
    assert not workdir.exists()


def test_a_run_starts_from_the_weights_of_a_file_and_resumes_without_it(finished, tiny_data, tmp_path):
    _, donor = finished
    file = tmp_path / "donor.safetensors"
    tensors = to_timm(donor["params"])
    tensors["head.weight"] = np.zeros((9, 48), np.float32)  # of another task
    safetensors.numpy.save_file(tensors, file)
    config = tiny_config(tiny_data, **{"model.weights": str(file), "duration.steps": 4, "ema_decay": 0.9})
    run = plan(config.copy_and_resolve_references(), tmp_path / "workdir")
    assert "newly made: head.bias, head.kernel" in run.summary
    state = run.init()
    for weights in (state["params"], state["ema"]["params"]):
        np.testing.assert_array_equal(weights["head"]["kernel"], 0)
        theirs = {key: value for key, value in donor["params"].items() if key != "head"}
        jax.tree.map(np.testing.assert_array_equal, {key: weights[key] for key in theirs}, theirs)
    placed = jax.tree.map(lambda array, wanted: array.sharding == wanted.sharding, state, run.program.state)
    assert all(jax.tree.leaves(placed))
    train(run, Console())
    file.unlink()
    again = plan(config, tmp_path / "workdir")
    assert int(train(again, Console())["step"]) == 4
    with pytest.raises(ValueError, match="there is no such file"):
        plan(tiny_config(tiny_data, **{"model.weights": str(file)}), tmp_path / "other")
    assert not (tmp_path / "other").exists()


# Every ingredient of the recipe at once, and three phases: low resolution, full, plain.
FULL = {
    "duration.steps": 12,
    "data.low_image_size": 16,
    "data.low_until.percent": 50.0,
    "data.pad": True,
    "sampling.name": "class",
    "sampling.after.percent": 25.0,
    "augment.plain_end.percent": 25.0,
    "augment.jitter": (0.4, 0.4, 0.4),
    "augment.grey": 0.1,
    "augment.randaugment.num_ops": 1,
    "augment.erasing.probability": 0.25,
    "augment.mix.mixup_alpha": 0.2,
    "augment.mix.cutmix_alpha": 1.0,
    "head.name": "cosine",
    "head.embedding_size": 24,
    "head.bnneck": True,
    "head.subcentres": 2,
    "loss.margin": "arcface",
    "loss.margin_by_frequency": (0.5, 0.25, 0.05),
    "loss.group_weight": 0.2,
    "optimizer.head_first.steps": 2,
    "optimizer.accumulate": 2,
    "model.options.drop_path": 0.1,
    "eval.image_size": 40,
    "checkpoint.every.percent": None,
    "checkpoint.every.steps": 4,
    "eval.every.percent": 100.0,
}


@pytest.mark.long
def test_the_full_recipe_runs_and_resumes_bitwise_in_any_phase(tiny_data, tmp_path):
    run = plan(tiny_config(tiny_data, **FULL), tmp_path / "undisturbed")
    assert [phase.until for phase in run.program.phases] == [6, 9, 12]
    assert "up to step 6: 16 pixels\n  up to step 9: 32 pixels\n  up to step 12: 32 pixels, plain" in run.summary
    assert run.config.model.num_groups > 1
    expected = jax.device_get(train(run, Console()))
    assert jax.tree.leaves(expected["params"]["group_head"])
    for stop in (4, 8):  # the kill of another test, without the process: what is left is a checkpoint in each phase
        workdir = tmp_path / f"stopped at {stop}"
        ends = run._replace(workdir=workdir, total_steps=stop, due=lambda what, step, stop=stop: step == stop)
        train(ends, Console())
        again = jax.device_get(train(plan(tiny_config(tiny_data, **FULL), workdir), Console()))
        jax.tree.map(np.testing.assert_array_equal, again, expected)


def test_a_second_stage_from_a_finished_run_trains_a_new_head_alone(finished, tiny_data, tmp_path):
    first, _ = finished
    config = second_stage.get_config(f"of={first}")
    config.data.data_dir = str(tiny_data)  # a setting that can still be set
    config.duration.epochs, config.duration.steps, config.batch_size = None, 3, 16
    run = plan(config, tmp_path / "second")
    assert f"run {first}, step" in run.summary
    assert len(run.config.model.weights_sha256) == 64
    start = open_run(first).weights()["params"]
    state = jax.device_get(train(run, Console()))
    for part, tree in start.items():
        if part == "head":
            assert not np.array_equal(tree["kernel"], state["params"]["head"]["kernel"])
        else:
            jax.tree.map(np.testing.assert_array_equal, state["params"][part], tree)
    config.model.weights_without = ("neck",)
    with pytest.raises(ValueError, match=r"model\.weights_without: 'neck' is found in none of blocks"):
        plan(config, tmp_path / "third")
    with pytest.raises(ValueError, match=r"needs the finished run: second_stage\.py:of=WORKDIR"):
        second_stage.get_config()
