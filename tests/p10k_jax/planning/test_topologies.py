import pytest

from p10k_jax.planning.topologies import parse_topology


@pytest.mark.parametrize(
    ("text", "name", "chips", "accelerator"),
    [
        ("v5e:4x4", "v5e:4x4", 16, "v5litepod-16"),
        ("v5e-16", "v5e:4x4", 16, "v5litepod-16"),
        ("v5litepod-8", "v5e:2x4", 8, "v5litepod-8"),
        ("v5e:1x1", "v5e:1x1", 1, "v5litepod-1"),
        ("v6e-256", "v6e:16x16", 256, "v6e-256"),
        ("v6e:8x8", "v6e:8x8", 64, "v6e-64"),
        ("v4-8", "v4:2x2x1", 4, "v4-8"),  # sizes of v4 and v5p count cores
        ("v5p-32", "v5p:2x2x4", 16, "v5p-32"),
        ("v5p:4x4x4", "v5p:4x4x4", 64, "v5p-128"),
    ],
)
def test_names_of_slices(text, name, chips, accelerator):
    topology = parse_topology(text)
    assert (topology.name, topology.chips) == (name, chips)
    environment = topology.environment()
    assert environment["TPU_ACCELERATOR_TYPE"] == accelerator
    assert environment["JAX_PLATFORMS"] == "cpu"  # the devices of the machine are left alone


def test_a_v4_chip_is_one_device():
    assert parse_topology("v4:2x2x1").description() == {"topology_name": "v4:2x2x1", "chip_config_name": "megacore"}
    assert parse_topology("v5e:2x2").description() == {"topology_name": "v5e:2x2"}


def test_cpu_devices_of_this_machine():
    topology = parse_topology("cpu:8")
    assert (topology.chips, topology.chip) == (8, None)
    assert topology.environment()["JAX_NUM_CPU_DEVICES"] == "8"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("v9:2x2", r"'v9:2x2' is unknown.*v5e: 1x1, 2x2.*v5p: 2x2x1"),
        ("v5e", "is unknown"),
        ("", "is unknown"),
        ("v5e:4x0", "is unknown"),
        ("v5e:2x2x1", "2 sides, such as 1x1, 2x2"),
        ("v5p:4x4", "3 sides, such as 2x2x1"),
        ("v5e-12", "no usual slice: v5e-1, v5e-4, v5e-8"),
        ("v5p-7", "no usual slice: v5p-8, v5p-16"),
    ],
)
def test_an_unknown_slice_lists_the_known(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_topology(text)
