"""Streamed, copied from the memory map, gathered on the devices: the same batches."""

import functools
import re

import jax
import numpy as np
import pytest

from p10k_jax.data.batches import Loading, abstract_batch, global_batches
from p10k_jax.data.decode import DecodeReport
from p10k_jax.data.decoded import ensure_decoded
from p10k_jax.data.order import EvaluationOrder, TrainingOrder
from p10k_jax.data.resident import (
    abstract_indices,
    abstract_resident,
    fetch,
    index_batches,
    num_shards,
    place,
    shard_bytes,
)
from p10k_jax.data.sampling import balanced_order
from p10k_jax.training.mesh import batch_sharding, make_mesh
from tests.fakes import memory_split

SIDE = 23  # odd, and no multiple of anything
SPLIT = memory_split(37, image_5=b"no picture at all")
LABELS = np.arange(37) % 4
ORDERS = {
    "plain": (TrainingOrder(seed=3, num_examples=37), range(3, 7)),  # from the middle, over the end of an epoch
    "balanced": (balanced_order("class", seed=3, labels=LABELS, groups=np.zeros_like(LABELS)), range(2, 4)),
    "evaluation": (EvaluationOrder(37), range(3)),  # whose last batch is not full
}


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    return ensure_decoded(tmp_path_factory.mktemp("decoded"), SPLIT, fingerprint="", canvas_size=SIDE)


def sharding_of(*sizes):
    return batch_sharding(make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))]))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 1, 1), (1, 1, 2)])
def test_the_three_give_the_same_batches(decoded, sizes, order):
    sharding = sharding_of(*sizes)
    order, steps = ORDERS[order]
    common = {"sharding": sharding, "batch_size": 16, "steps": steps, "order": order}
    reports = DecodeReport(), DecodeReport()
    stream, host = (
        global_batches(SPLIT, canvas_size=SIDE, loading=Loading(2), report=report, decoded=source, **common)
        for report, source in zip(reports, (None, decoded), strict=True)
    )
    resident = place(decoded, sharding)
    fetched = jax.jit(functools.partial(fetch, sharding=sharding))
    shapes = abstract_batch(16, SIDE, sharding)
    for streamed, copied, indices in zip(stream, host, index_batches(**common), strict=True):
        assert {name: array.shape for name, array in indices.device.items()} == {"index": (16,), "mask": (16,)}
        gathered = fetched(resident, indices.device)
        for batch in (streamed.device, copied.device, gathered):
            assert batch.keys() == shapes.keys()
            for name, array in batch.items():
                np.testing.assert_array_equal(array, streamed.device[name], err_msg=name)
                assert (array.shape, array.dtype) == (shapes[name].shape, shapes[name].dtype)
                assert array.sharding.is_equivalent_to(sharding, array.ndim)
        for name, column in streamed.host.items():
            np.testing.assert_array_equal(copied.host[name], column)
    np.testing.assert_array_equal(reports[0].counts, reports[1].counts)
    assert reports[0].unreadable == reports[1].unreadable == ["0005.jpg"]


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 1, 2)])
def test_what_is_placed_is_what_was_planned(decoded, sizes):
    sharding = sharding_of(*sizes)
    planned = abstract_resident(37, SIDE, sharding)
    placed = place(decoded, sharding)
    for array, shape in zip(placed, planned, strict=True):
        assert (array.shape, array.dtype) == (shape.shape, shape.dtype)
        assert array.sharding.is_equivalent_to(shape.sharding, array.ndim)
    shards = {(1, 1, 2): 1, (2, 2, 2): 4}.get(sizes, 8)
    assert num_shards(sharding) == shards
    assert {shard.data.nbytes for shard in placed.images.addressable_shards} == {shard_bytes(37, SIDE, shards)}


def collectives(hlo: str) -> dict[str, int]:
    """The collectives of a compiled program, by name with the elements of the largest array in each."""
    found = {}
    for line in hlo.splitlines():
        if match := re.match(r"\s*(?:ROOT )?(%\S*) = .*\b(all-|reduce-scatter|collective-)[a-z-]*\(", line):
            shapes = re.findall(r"\b[a-z]+\d+\[([\d,]*)\]", line.split("channel_id")[0])
            found[match[1]] = max(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)
    return found


@pytest.mark.parametrize(("sizes", "shards"), [((8, 1, 1), 8), ((2, 2, 2), 4), ((1, 1, 2), 1)])
def test_no_collective_is_larger_than_a_batch(sizes, shards):
    sharding = sharding_of(*sizes)
    shapes = abstract_resident(5000, SIDE, sharding), abstract_indices(16, sharding)
    compiled = jax.jit(functools.partial(fetch, sharding=sharding)).lower(*shapes).compile()
    sizes = collectives(compiled.as_text())
    if shards == 1:
        assert sizes == {}
    else:  # of what each sends: its own rows, and the indices
        assert sorted(sizes.values()) == [16, 16 // shards * SIDE * SIDE * 3]
    assert compiled.memory_analysis().temp_size_in_bytes < 3 * 16 * SIDE * SIDE * 3


def test_canvases_of_another_size(decoded):
    settings = {"loading": Loading(1), "report": DecodeReport(), "sharding": sharding_of(1, 1, 1)}
    settings |= {"batch_size": 4, "steps": range(1), "order": EvaluationOrder(37)}
    with pytest.raises(ValueError, match=r"holds 37 canvases of 23 pixels, not 37 of 24"):
        next(global_batches(SPLIT, canvas_size=24, decoded=decoded, **settings))
    with pytest.raises(ValueError, match=r"batch_size=30 does not divide over the 8 batch shards"):
        next(index_batches(sharding=sharding_of(8, 1, 1), batch_size=30, steps=range(1), order=EvaluationOrder(37)))
