import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from p10k_jax.training.mesh import make_mesh, state_shardings


def shapes(**kwargs):
    return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in kwargs.items()}


def test_mesh_takes_what_is_left():
    assert dict(make_mesh().shape) == {"data": 8, "fsdp": 1, "model": 1}
    assert dict(make_mesh(data=-1, fsdp=2, model=2).shape) == {"data": 2, "fsdp": 2, "model": 2}
    assert dict(make_mesh(data=2, fsdp=-1).shape) == {"data": 2, "fsdp": 4, "model": 1}


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 1, 8), (16, 1, 1)])
def test_mesh_that_does_not_fit(sizes):
    with pytest.raises(ValueError, match=r"mesh data=.*does not fit 8 devices"):
        make_mesh(*sizes)


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a mesh asks of a device."""

    id: int
    coords: tuple[int, int, int]
    slice_index: int = 0
    device_kind: str = "TPU v6 lite"
    platform: str = "tpu"
    core_on_chip: int = 0
    process_index: int = 0


def test_neighbours_on_the_slice_share_the_parameters():
    chips = [Chip(16 * x + y, (x, y, 0)) for x in range(16) for y in range(16)]
    mesh = make_mesh(fsdp=4, devices=chips)
    assert dict(mesh.shape) == {"data": 64, "fsdp": 4, "model": 1}
    for row in mesh.devices.reshape(64, 4):
        (xs, ys) = ({chip.coords[axis] for chip in row} for axis in (0, 1))
        assert sorted([len(xs), len(ys)]) == [1, 4]
        assert max(max(xs) - min(xs), max(ys) - min(ys)) == 3


def test_several_slices_make_no_mesh():
    with pytest.raises(ValueError, match="of several slices"):
        make_mesh(devices=[Chip(0, (0, 0, 0)), Chip(1, (0, 0, 0), slice_index=1)])


def test_rules_decide_and_fsdp_is_the_default():
    mesh = make_mesh(data=2, fsdp=2, model=2)
    state = shapes(kernel=(128, 256), odd=(129, 257), small=(8, 8), head=(256, 4), count=())
    found = state_shardings(mesh, state, [("head", (None, "model")), ("small", "replicated")])
    assert {name: sharding.spec for name, sharding in found.items()} == {
        "kernel": P(None, "fsdp"),
        "odd": P(),
        "small": P(),
        "head": P(None, "model"),
        "count": P(),
    }


def test_one_axis_split_over_two_of_the_mesh():
    mesh = make_mesh(data=2, fsdp=2, model=2)
    found = state_shardings(mesh, shapes(head=(256, 8)), [("head", (None, ("fsdp", "model")))])
    assert found["head"].spec == P(None, ("fsdp", "model"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rows", "'rows' does not fit shape"),
        (("model",), "does not fit shape"),
        ((None, "tensor"), "mesh axis 'tensor' is unknown; known: data, fsdp, model"),
        (("model", None), r"'model' cuts into 8 parts, which do not divide 9; the next size that they divide is 16"),
    ],
)
def test_a_rule_that_does_not_fit(spec, message):
    with pytest.raises(ValueError, match=f"sharding rule for head: .*{message}"):
        state_shardings(make_mesh(model=-1, data=1), shapes(head=(9, 16)), [("head", spec)])


def test_factored_moments_of_a_parameter_with_a_rule_are_split_as_they_can():
    state = {
        "params": {"head": {"kernel": jax.ShapeDtypeStruct((256, 512), "float32")}},
        "opt_state": ({"v_row": {"head": {"kernel": jax.ShapeDtypeStruct((256,), "float32")}}},),
    }
    shardings = state_shardings(make_mesh(2, 2, 2), state, ((r"head\.kernel$", (None, "model")),))
    assert shardings["params"]["head"]["kernel"].spec == P(None, "model")
    assert shardings["opt_state"][0]["v_row"]["head"]["kernel"].spec == P()


def test_classes_are_split_by_themselves():
    state = {
        "params": {"head": shapes(kernel=(96, 512), bias=(512,)), "group_head": shapes(kernel=(96, 512))},
        "ema": {"fc": shapes(kernel=(1, 1, 96, 512))},
        "narrow": {"head": shapes(kernel=(96, 511))},
    }

    def specs(mesh, rules=()):
        return jax.tree.map(lambda sharding: sharding.spec, state_shardings(mesh, state, rules))

    found = specs(make_mesh(2, 2, 2))
    assert found["params"] == {
        "head": {"kernel": P("fsdp", "model"), "bias": P("model")},
        "group_head": {"kernel": P(None, "fsdp")},
    }
    assert found["ema"]["fc"]["kernel"] == P(None, None, "fsdp", "model")
    assert found["narrow"]["head"]["kernel"] == P("fsdp"), "what the axis does not divide goes by fsdp"
    assert specs(make_mesh(8))["params"]["head"] == {"kernel": P(), "bias": P()}
    given = specs(make_mesh(2, 2, 2), [(r"params\.head\.kernel$", "replicated")])
    assert given["params"]["head"]["kernel"] == P(), "a rule that is given comes first"
