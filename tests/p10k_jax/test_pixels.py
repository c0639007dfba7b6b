import jax
import numpy as np
import pytest

from p10k_jax import pixels, setup
from p10k_jax.data.splits import open_split
from p10k_jax.training.mesh import make_mesh
from tests.runs import tiny_config

CANVAS = 41  # that no run of another test has, so that nothing lies there


@pytest.fixture
def run(tiny_data):
    """Config, dataset and splits; what is decoded goes away again."""
    config = tiny_config(tiny_data, **{"data.canvas_size": CANVAS})
    builder = setup.open_data(config)
    splits = [open_split(builder, name) for name in ("train", "validation")]
    yield config, builder, splits
    for folder in builder.data_path.glob(f"decoded/*-{CANVAS}-*"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_auto_on_a_cpu_is_the_host_and_what_is_there_is_used(run, capsys):
    config, builder, splits = run
    said = pixels.choose_residency(config, builder, splits, make_mesh())
    assert (config.data.residency, said) == ("host", "pixels: on the host, a memory map of 0.3 MB")
    train = pixels.decoded(config, builder, splits[0])
    assert "decoding train once: 56 of 56 pictures" in capsys.readouterr().err
    assert train.images.shape == (56, CANVAS, CANVAS, 3)
    # Evaluation reads what is there and decodes nothing for later; a run that streams, or is older, looks for nothing.
    np.testing.assert_array_equal(pixels.decoded_before(config, builder, splits[0]).images, train.images)
    assert pixels.decoded_before(config, builder, splits[1]) is None
    pixels.decoded(config, builder, splits[1])
    config.data.residency, config.duration.steps = "auto", 1
    assert pixels.choose_residency(config, builder, splits, make_mesh()).endswith("that was there")
    config.data.residency = "stream"
    assert pixels.decoded(config, builder, splits[0]) is None
    assert pixels.decoded_before(config, builder, splits[0]) is None
    with config.unlocked():
        del config.data["residency"]
    assert pixels.decoded_before(config, builder, splits[0]) is None


@pytest.mark.parametrize(
    ("steps", "writable", "said"),
    [
        (7, True, "pixels: streamed; a run of 2 epochs is too short to decode first"),
        (8, False, "pixels: streamed; the data's folder cannot be written"),
    ],
)
def test_auto_streams(run, monkeypatch, steps, writable, said):
    config, builder, splits = run
    config.duration.steps = steps
    monkeypatch.setattr(pixels, "can_write", lambda data_dir: writable)
    assert pixels.choose_residency(config, builder, splits, make_mesh()) == said
    assert config.data.residency == "stream"


class Card:
    """A device that tells its memory."""

    def __init__(self, size: int):
        self.size = size

    def memory_stats(self):
        return {"bytes_limit": self.size}


def test_auto_on_devices_that_tell_their_memory(run, monkeypatch):
    config, builder, splits = run
    shard = 7 * CANVAS**2 * 3  # 56 pictures over 8 devices
    mesh = make_mesh()
    for size, expected in ((4 * shard, "device"), (4 * shard - 1, "host")):
        config.data.residency = "auto"
        monkeypatch.setattr(jax, "local_devices", lambda size=size: [Card(size)])
        pixels.choose_residency(config, builder, splits, mesh)
        assert config.data.residency == expected
