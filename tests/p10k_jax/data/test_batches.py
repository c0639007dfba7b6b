import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from p10k_jax.data.batches import Loading, evaluation_steps, global_batches, host_batches, local_rows
from p10k_jax.data.decode import GREY, RUNGS, DecodeReport
from p10k_jax.data.order import EvaluationOrder, TrainingOrder
from p10k_jax.training.mesh import batch_sharding, make_mesh
from tests.fakes import memory_split

SPLIT = memory_split(37)
ORDER = TrainingOrder(seed=7, num_examples=37)
FIELDS = ("image", "aspect", "label", "group", "index", "mask", "name", "usage")


def stream(rows, steps=range(5), *, batch_size=16, threads=2, workers=0, order=ORDER):
    loading = Loading(threads=threads, workers=workers)
    settings = {"batch_size": batch_size, "canvas_size": 24, "steps": steps, "loading": loading, "order": order}
    return list(host_batches(SPLIT, rows=np.asarray(rows), **settings))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_slices_make_the_same_batch(hosts):
    whole = stream(np.arange(16))
    parts = [stream(rows) for rows in np.split(np.arange(16), hosts)]
    for step, batch in enumerate(whole):
        for field in FIELDS:
            together = np.concatenate([part[step][field] for part in parts])
            np.testing.assert_array_equal(together, batch[field], err_msg=field)


def test_batch_is_a_function_of_seed_and_number():
    from_start = stream(np.arange(16))
    resumed = stream(np.arange(16), steps=range(3, 5), threads=1)
    assert len(resumed) == 2
    for field in FIELDS:
        np.testing.assert_array_equal(resumed[0][field], from_start[3][field])
        np.testing.assert_array_equal(resumed[1][field], from_start[4][field])
    assert not np.array_equal(stream(np.arange(16), order=TrainingOrder(8, 37))[0]["index"], from_start[0]["index"])


def test_workers_change_nothing():
    in_threads, in_workers = stream(np.arange(16), steps=range(2)), stream(np.arange(16), steps=range(2), workers=2)
    for a, b in zip(in_threads, in_workers, strict=True):
        for field in FIELDS:
            np.testing.assert_array_equal(a[field], b[field])


def test_rows_carry_their_example():
    for batch in stream(np.arange(16)):
        for row, index in enumerate(batch["index"]):
            assert batch["name"][row] == f"{index:04d}.jpg"
            assert batch["label"][row] == index % 4
            assert batch["usage"][row] == ("private" if index % 3 == 0 else "public")
            np.testing.assert_allclose(batch["aspect"][row], 56 / (40 + index % 7), rtol=1e-6)


@pytest.mark.parametrize("batch_size", [5, 16, 37, 64])
def test_evaluation_is_exact(batch_size):
    steps = range(evaluation_steps(len(SPLIT), batch_size))
    batches = stream(np.arange(batch_size), steps=steps, batch_size=batch_size, order=EvaluationOrder(37))
    indices = np.concatenate([batch["index"][batch["mask"]] for batch in batches])
    assert indices.tolist() == list(range(37))


@pytest.mark.parametrize("sizes", [(8, 1, 1), (4, 2, 1), (2, 2, 2), (1, 1, 8)])
def test_global_batch_on_any_mesh(sizes):
    sharding = batch_sharding(make_mesh(*sizes))
    settings = {
        "batch_size": 16,
        "canvas_size": 24,
        "steps": range(1),
        "loading": Loading(2),
        "order": TrainingOrder(7, 37),
    }
    [loaded] = global_batches(SPLIT, sharding=sharding, report=DecodeReport(), **settings)
    [expected] = stream(np.arange(16), steps=range(1))
    for field in ("image", "aspect", "label", "group", "index", "mask"):
        assert loaded.device[field].sharding.is_equivalent_to(sharding, loaded.device[field].ndim)
        np.testing.assert_array_equal(loaded.device[field], expected[field])


def test_local_rows_of_a_part_of_the_devices():
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    assert local_rows(NamedSharding(mesh, P("data")), 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_batch_that_the_mesh_does_not_divide():
    sharding = batch_sharding(make_mesh())
    settings = {
        "canvas_size": 24,
        "steps": range(1),
        "loading": Loading(1),
        "order": TrainingOrder(0, 37),
        "report": DecodeReport(),
    }
    with pytest.raises(ValueError, match=r"batch_size=30 does not divide over the 8 batch shards.*try 24 or 32"):
        next(global_batches(SPLIT, sharding=sharding, batch_size=30, **settings))


def test_unreadable_picture_becomes_grey_and_is_named():
    whole = memory_split(8).records[5]["image"]
    split = memory_split(8, image_3=b"no picture at all", image_5=whole[: len(whole) * 3 // 4])
    report, sharding = DecodeReport(), batch_sharding(make_mesh(1, devices=jax.devices()[:1]))
    settings = {
        "batch_size": 8,
        "canvas_size": 24,
        "steps": range(1),
        "loading": Loading(1),
        "order": EvaluationOrder(8),
    }
    [loaded] = global_batches(split, sharding=sharding, report=report, **settings)
    images = np.asarray(loaded.device["image"])
    assert (images[3] == GREY).all()
    assert not (images[5] == GREY).all()
    assert report.counts[RUNGS.index("unreadable")] == 1
    assert report.counts[RUNGS.index("pillow-truncated")] == 1
    assert "6 by simplejpeg" in str(report)
    assert "1 by unreadable (0003.jpg: shown to the model as grey)" in str(report)
