"""The program on the smallest run, on noise and on its data."""

import json
import math
import time

import jax.numpy as jnp
import pytest

from p10k_jax import bench as program
from p10k_jax.benchmarking.report import report
from p10k_jax.benchmarking.subject import synthetic
from p10k_jax.benchmarking.windows import WARM_UP, time_windows
from p10k_jax.planning.sizes import Sizes
from p10k_jax.reporting.pace import Pace
from tests.runs import flags, start, tiny_config

SIZES = Sizes(train=96, evaluation=0, num_classes=12, num_groups=0, source="a test")


@pytest.fixture(scope="module")
def told(tiny_data, tmp_path_factory):
    """All figures of the run on its data, on devices whose peak is 1 TFLOP/s."""
    config = tiny_config(tiny_data, **{"data.residency": "device"})
    folder = tmp_path_factory.mktemp("folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("p10k_jax.benchmarking.step.peak_flops", lambda devices: 1e12 * len(devices))
        figures = program.bench(program.on_data(config), "all", steps=1, folder=folder)
    assert list(folder.iterdir()) == []  # the checkpoints are removed again
    return figures


def test_what_scripts_read(told):
    assert json.loads(json.dumps(told)) == told
    assert told.keys() >= {"device", "devices", "chip", "mesh", "model", "dtype", "data"}
    assert told.keys() >= {"step", "eval", "checkpoint"}
    assert "input" not in told  # the pixels are on the devices
    assert (told["device"], told["devices"], told["chip"]) == ("cpu", 8, None)
    (phase,) = told["step"]["phases"]
    assert math.isclose(phase["mfu"], phase["images_per_second"] * phase["flops_per_image"] / 8e12)
    assert told["eval"]["mfu"] is None  # a CPU's peak is in no table
    assert phase["images_per_second"] > 0
    assert 0 <= phase["data_wait"] <= 1
    low, high = phase["images_per_second_range"]
    assert low <= phase["images_per_second"] <= high
    assert math.isclose(phase["step_seconds"], 16 / phase["images_per_second"])
    assert phase["program_flops_per_image"] > 0.8 * phase["flops_per_image"]
    assert told["checkpoint"]["bytes"] > 3 * 4 * 60_000  # parameters, two moments, averages
    assert told["checkpoint"]["background_seconds"] > 0


def test_a_person_reads_every_figure(told):
    text = report(told)
    for heading in ("step", "eval", "checkpoint"):
        assert f"\n{heading}" in text
    assert "cpu (its peaks are not known)" in text


def test_input_alone(tiny_data):
    told = program.bench(program.on_data(tiny_config(tiny_data, **{"data.residency": "stream"})), "input", steps=2)
    assert told["input"]["residency"] == "stream"
    assert told["input"]["images_per_second"] > 0
    assert "\ninput" in report(told)


def test_input_that_is_there_already(tiny_data):
    with pytest.raises(ValueError, match="the pixels lie on the devices"):
        program.bench(program.on_data(tiny_config(tiny_data, **{"data.residency": "device"})), "input", steps=1)


def test_evaluation_goes_round_and_counts_no_empty_row(tiny_data):
    subject = program.on_data(tiny_config(tiny_data, **{"eval.batch_size": 16}))
    batches = list(subject.evaluation(3))  # the validation split has fewer images than that
    assert all(batch.host["mask"].all() for batch in batches)
    assert len(batches) == 3


def test_noise_needs_no_data(tmp_path):
    subject = synthetic(tiny_config(tmp_path / "none"), SIZES)
    told = program.bench(subject, "eval", steps=1)
    assert told["eval"]["images_per_second"] > 0
    assert "noise" in told["data"]
    assert not subject.with_input


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(ValueError, match="batch_size=12 does not divide over the 8 batch shards"):
        synthetic(tiny_config(tmp_path, **{"eval.batch_size": 12}), SIZES)


def test_windows_count_their_steps_alone():
    def step(batch):
        time.sleep(0.5 if batch < WARM_UP else 0.01)
        return jnp.zeros(())

    timed = time_windows(step, lambda count: iter(range(count)), Pace(1), steps=2)
    assert 30 < timed["images_per_second"] <= 100


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give one of input, step, eval, checkpoint, all"),
        (["step", "more"], "unexpected 'more'"),
        (["input", "--synthetic"], "--synthetic has no input to measure"),
        (["step", "--examples=5"], "--examples and --groups are for --synthetic"),
    ],
)
def test_complaints(arguments, complaint, tiny_data):
    given = [one for one in flags(tiny_data, "unused") if not one.startswith("--workdir")]
    child = start("bench", [*arguments, *given])
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 2
    assert complaint in said
