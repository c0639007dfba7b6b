import pytest

from p10k_jax.hardware import TPUS
from p10k_jax.planning.figures import advice, plan_figures, roofline_seconds, total_bytes
from p10k_jax.planning.sizes import Sizes
from p10k_jax.planning.topologies import parse_topology

GIB = 2**30
SIZES = Sizes(train=100_000, evaluation=5_000, num_classes=10, num_groups=0, source="a test")


def part(**settings):
    """256 images on 4 chips: 64 a chip, each of 100 GFLOP and 0.5 GB."""
    return {
        "description": "training",
        "steps": 1000,
        "images": 256,
        "flops": 64 * 100e9,
        "bytes": 64 * 900e6,
        "memory_traffic": 64 * 500e6,
        "memory": {"argument": 2 * GIB, "output": GIB, "alias": GIB, "temporary": 3 * GIB, "code": GIB // 4},
        "collectives": {"all-reduce": {"count": 2, "bytes": 10**9, "sent": 1.5e9}},
        "all_classes": None,
        "seconds": 60.0,
    } | settings


def answer(*phases, **settings):
    state = {"parameters": GIB, "optimizer": GIB // 2, "averages": 0, "batch_stats": 0}
    common = {"device_kind": "TPU v5 lite", "mesh": {"data": 4, "fsdp": 1, "model": 1}, "batch_size": 256}
    common |= {"canvas_size": 100, "total_steps": 1000, "state": state, "batch": GIB // 2}
    return common | {"phases": list(phases or [part()])} | settings


def figures(given, topology="v5e:2x2", mfu=0.4):
    return plan_figures(given, parse_topology(topology), SIZES, mfu=mfu)


def test_what_is_given_in_place_of_what_is_taken_counts_once():
    assert total_bytes({"argument": 10, "output": 7, "alias": 6, "temporary": 100, "code": 1000}) == 1111
    assert figures(answer())["total_bytes"] == (2 + 3) * GIB + GIB // 4


def test_the_slowest_roof_is_the_bound():
    seconds = roofline_seconds(TPUS["v5e"], flops=197e12, traffic=2 * 819e9, sent=3 * 200e9)
    assert seconds == pytest.approx({"compute": 1.0, "memory": 2.0, "interconnect": 3.0})
    assert roofline_seconds(None, flops=1, traffic=1, sent=1) == {}


def test_figures_an_image_and_hours():
    told = figures(answer())
    assert (told["flops_per_image"], told["bytes_per_image"]) == (100e9, 900e6)
    memory_seconds = 64 * 500e6 / 819e9  # more than 64 * 100e9 / 197e12 of compute and 1.5e9 / 200e9 of links
    assert told["bound_by"] == "memory"
    assert told["images_per_second"] == pytest.approx(256 / memory_seconds)
    assert told["hours"] == pytest.approx(1000 * memory_seconds / 3600)
    assert told["chip_hours"] == pytest.approx(4 * told["hours"])
    expected = 64 * 100e9 / (0.4 * 197e12)
    assert told["expected_hours"] == pytest.approx(1000 * expected / 3600)
    assert told["expected_images_per_second"] == pytest.approx(256 / expected)


def test_the_expected_is_never_faster_than_the_bound():
    told = figures(answer(), mfu=1.0)
    assert told["expected_hours"] == told["hours"]


def test_hours_of_phases_and_evaluation_add_up():
    less = part()["memory"] | {"temporary": GIB}
    low = part(description="low", steps=3000, flops=64 * 30e9, memory_traffic=64 * 100e6, memory=less)
    evaluation = part(description="evaluation", steps=50, images=256, memory_traffic=64 * 50e6, collectives={})
    told = figures(answer(low, part(), evaluation=evaluation))
    alone = [figures(answer(one))["hours"] for one in (low, part(), evaluation)]
    assert told["hours"] == pytest.approx(sum(alone))
    assert told["flops_per_image"] == 100e9  # of the phase that needs most
    assert [one["description"] for one in told["phases"]] == ["low", "training"]
    # Beside the evaluation lies the whole state: 1.5 GiB, half of one for the batch, 1 of output, 3.25 of its own.
    assert told["evaluation"]["total_bytes"] == 6.25 * GIB


def test_a_program_too_large_for_the_compiler():
    told = figures(answer(part() | {"out_of_memory": {"needed": 20 * GIB, "available": 15 * GIB}, "memory": None}))
    assert not told["fits"]
    assert (told["total_bytes"], told["chip_memory_bytes"], told["excess_bytes"]) == (20 * GIB, 15 * GIB, 5 * GIB)
    assert told["temporary_bytes"] == 18 * GIB
    assert told["hours"] is told["images_per_second"] is told["flops_per_image"] is None


def test_what_compiles_and_yet_is_too_large_does_not_fit():
    memory = part()["memory"] | {"temporary": 16 * GIB}
    told = figures(answer(part(memory=memory)))
    assert (told["fits"], told["excess_bytes"]) == (False, (2 + 16) * GIB + GIB // 4 - 16 * GIB)


def test_whether_the_data_fits_beside():
    data = figures(answer())["data"]
    assert data["bytes"] == 100 * 100 * 3 * 100_000
    assert data["bytes_per_chip"] == 750_000_000
    assert data["fits_on_device"] is True
    assert figures(answer(canvas_size=500))["data"]["fits_on_device"] is False  # 18.75 GB a chip


def test_a_chip_that_nobody_knows():
    told = figures(answer(), topology="cpu:4")
    assert told["fits"]
    assert told["chip_memory_bytes"] is told["hours"] is told["bound_by"] is told["images_per_second"] is None
    assert told["flops_per_image"] == 100e9


def test_advice_names_what_would_help():
    too_large = figures(answer(part() | {"out_of_memory": {"needed": 17 * GIB, "available": 15 * GIB}}))
    ways = advice(too_large, remat="none", accumulate=1)
    assert [name for name in ("mesh.fsdp=4", "model.remat", "accumulate=2", "largest_batch") if name in " ".join(ways)]
    assert ways[0].startswith("--config.mesh.fsdp=4")
    assert not any("remat" in way for way in advice(too_large, remat="blocks", accumulate=1))
    split = too_large | {"mesh": {"data": 1, "fsdp": 4, "model": 1}}
    assert not any("fsdp" in way for way in advice(split, remat="none", accumulate=1))
    assert advice(figures(answer()), remat="none", accumulate=1) == []
