"""The pipeline on the eight CPU devices, against what JAX says of the same program."""

import importlib.util
import math
import os

import jax
import numpy as np
import pytest

from p10k_jax.planning.child import compile_in_child
from p10k_jax.planning.compiling import Request, compiled, out_of_memory
from p10k_jax.planning.sized import made_up_counts
from p10k_jax.planning.sizes import Sizes
from tests.runs import tiny_config

SIZES = Sizes(train=160, evaluation=20, num_classes=7, num_groups=0, source="a test")
TINY = {"model.options.depth": 1, "data.data_dir": "/nowhere", "augment.jitter": (0.4, 0.4, 0.4)}


def request(topology="cpu:8", everything=True, **settings):
    config = tiny_config("/nowhere", **(TINY | settings))
    return Request(config.to_dict(), topology, SIZES, everything)


@pytest.fixture(scope="module")
def told():
    return compiled(request(**{"data.low_image_size": 16, "ema_decay": 0.9, "mesh.fsdp": 4}))


def test_every_phase_and_the_evaluation(told):
    assert told["mesh"] == {"data": 2, "fsdp": 4, "model": 1}
    assert [(phase["steps"], phase["images"]) for phase in told["phases"]] == [(21, 16), (9, 16)]
    assert told["phases"][0]["flops"] < told["phases"][1]["flops"]
    assert told["evaluation"]["steps"] == 5 * math.ceil(20 / 8)  # every fifth of the run, batches of 8
    assert told["device_kind"] == "cpu"


def test_the_state_is_counted_to_the_byte(told):
    """AdamW: two moments, averages: a copy; `fsdp` cuts what is large and divides."""

    def held(shape):
        size = math.prod(shape)
        return 4 * (size // 4 if size >= 2**14 and any(side % 4 == 0 for side in shape) else size)

    from p10k_jax import setup
    from p10k_jax.weights.preprocessing import preprocessing_of

    config = tiny_config("/nowhere", **TINY)
    setup.resolve_sizes(config, preprocessing_of(config.model.name), num_classes=7, num_groups=0)
    params, _ = jax.eval_shape(setup.make_model(config).init, jax.random.key(0))
    parameters = sum(held(leaf.shape) for leaf in jax.tree.leaves(params))
    state = told["state"]
    assert (state["parameters"], state["averages"], state["batch_stats"]) == (parameters, parameters, 0)
    assert 0 <= state["optimizer"] - 2 * parameters <= 16  # and counters
    assert told["batch"] == 16 // 8 * (37 * 37 * 3 + 4 + 4 + 4 + 4 + 1)  # images of 32 pixels out of 37


def test_memory_is_what_the_compiler_says(told):
    """Arguments: the state, the batch's share, the step's number and key."""
    memory = told["phases"][-1]["memory"]
    held = sum(told["state"].values()) + told["batch"]
    assert memory["argument"] == pytest.approx(held, rel=0.01)
    assert memory["alias"] == pytest.approx(sum(told["state"].values()), rel=0.01)
    assert memory["temporary"] > 0


def test_flops_are_those_of_jax_and_do_not_depend_on_the_parts():
    whole = compiled(request("cpu:1", everything=False))["phases"][0]
    # The model's own: 16 tokens, width 48, forward and twice that backward; the rest is small beside it.
    parts = compiled(request("cpu:1", everything=False, **{"optimizer.accumulate": 4}))["phases"][0]
    assert parts["flops"] == pytest.approx(whole["flops"], rel=0.1)  # XLA would say a quarter
    assert parts["memory"]["temporary"] < whole["memory"]["temporary"]


def test_chips_share_the_work():
    one, eight = (compiled(request(name, everything=False))["phases"][0] for name in ("cpu:1", "cpu:8"))
    assert eight["flops"] == pytest.approx(one["flops"] / 8, rel=0.2)
    assert one["collectives"] == {}
    assert eight["collectives"]["all-reduce"]["bytes"] > 0


@pytest.mark.parametrize(
    ("settings", "whole"),
    [({}, False), ({"sharding_rules": ((r"(^|\.)head\.", "replicated"),)}, True)],
    ids=["split", "whole"],
)
def test_a_classifier_that_is_whole_on_a_chip_is_found_by_its_padded_width(settings, whole):
    told = compiled(request(everything=False, **{"mesh.model": 4}, **settings))["phases"][0]["all_classes"]
    assert (told is not None and 128 in told["sizes"]) == whole


@pytest.mark.parametrize(
    ("topology", "settings", "complaint"),
    [
        ("cpu:8", {"batch_size": 12}, "batch_size=12 does not divide over the 8 batch shards"),
        ("cpu:8", {"mesh.fsdp": 3}, "does not fit 8 devices"),
        ("cpu:8", {"model.num_classes": 3}, "model.num_classes=3, but there are 7 classes"),
        ("cpu:8", {"optimizer.name": "adm"}, "adm"),
        ("cpu:9999", {}, "there are 8 CPU devices"),
    ],
)
def test_what_cannot_be_trained_is_refused(topology, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        compiled(request(topology, **settings))


def test_what_the_tpu_compiler_says_of_too_large_a_program():
    message = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 35.34G of "
        "15.75G hbm. Exceeded hbm capacity by 19.59G.\n\nTotal hbm usage >= 35.59G:\n    reserved        258.00M"
    )
    assert out_of_memory(message) == {"needed": round(35.34 * 2**30), "available": round(15.75 * 2**30)}
    assert out_of_memory("INTERNAL: Mosaic failed to compile") is None


def test_made_up_counts_are_no_constant():
    counts = made_up_counts(9_691, 134_024)
    assert counts.shape == (9_691,)
    assert 0.5 < counts.mean() / (134_024 / 9_691) < 2
    assert len(np.unique(counts)) > 1


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="no TPU compiler (extra tpu)")
@pytest.mark.skipif("P10K_JAX_TPU_COMPILER" not in os.environ, reason="slow: set P10K_JAX_TPU_COMPILER=1")
def test_the_tpu_compiler():
    told = compile_in_child(request("v5e:2x2", everything=False), time_limit=600.0)
    assert told["device_kind"] == "TPU v5 lite"
    assert told["phases"][0]["collectives"]["all-reduce"]["count"] > 0
