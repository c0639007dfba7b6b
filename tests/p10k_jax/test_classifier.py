"""Exports of strangers: what no export holds is refused before anything is traced, made room for or run."""

import json

import jax
import jax.export
import numpy as np
import pytest

from p10k_jax.classifier import classifier_of_export
from tests.fuzz import seeds
from tests.fuzz.folders import unpack, write


def timm_folder(folder, **changes):
    """A tiny ViT's export with other values in its `config.json`."""
    files = unpack(seeds.timm_export()["vit"])
    config = json.loads(files["config.json"])
    for key, value in changes.items():
        (config if key in config else config["model_args"])[key] = value
    write(files | {"config.json": json.dumps(config).encode()}, folder)
    return folder


def test_the_plain_one_is_read(tmp_path):
    assert len(classifier_of_export(timm_folder(tmp_path)).classes) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 10**6}, "depth=1000000 is not an integer from 1 to 20"),
        ({"img_size": 10**6}, "image_size=1000000 is not an integer from 1 to 8,192"),
        ({"img_size": 16}, "16 pixels, where the pictures have 8"),
        ({"patch_size": 0}, "patch_size=0 is not"),
        ({"num_heads": "1"}, "heads='1' is not"),
        ({"reg_tokens": -1}, "registers=-1 is not an integer from 0"),
        ({"num_classes": 10**15}, "1000000000000000 classes"),
        ({"init_values": "x"}, "describes no model .TypeError"),
        ({"mlp_ratio": float("nan")}, "describes no model .ValueError: cannot convert"),
    ],
)
def test_sizes_of_no_model_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=rf"config\.json.*{message}.*export anew"):
        classifier_of_export(timm_folder(tmp_path, **changes))


def jax_folder(folder, program, **how):
    """An export whose program is this one."""
    files = unpack(seeds.jax_export()["whole"])
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = {"params.head.kernel": jax.ShapeDtypeStruct((3, 3), np.float32)}
    images = jax.ShapeDtypeStruct((batch, 8, 8, 3), np.float32)
    exported = jax.export.export(jax.jit(program), platforms=("cpu",), **how)(shapes, images)
    write(files | {"model.jaxexport": bytes(exported.serialize())}, folder)
    return folder


def test_a_program_that_calls_into_the_process_is_not_run(tmp_path):
    def program(tensors, images):
        seen = images.mean((1, 2))
        called = jax.ffi.ffi_call("somewhere", jax.ShapeDtypeStruct((3,), np.float32))(tensors["params.head.kernel"])
        return {"logits": seen + called, "embedding": seen}

    check = jax.export.DisabledSafetyCheck.custom_call("somewhere")
    with pytest.raises(ValueError, match=r"holds custom_call, which reaches beyond the computation .* not run"):
        classifier_of_export(jax_folder(tmp_path, program, disabled_checks=[check]))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda seen: {"scores": seen, "embedding": seen}, "does not fit what lies beside it .'logits'"),
        (lambda seen: {"logits": seen[:, :2], "embedding": seen}, r"gives \(2, 2\) and \(2, 3\) of 2 pictures, with 3"),
        (lambda seen: {"logits": seen, "embedding": seen[0]}, r"gives \(2, 3\) and \(3,\)"),
    ],
)
def test_a_program_of_other_outputs_is_refused(outputs, message, tmp_path):
    folder = jax_folder(tmp_path, lambda tensors, images: outputs(images.mean((1, 2))))
    with pytest.raises(ValueError, match=message):
        classifier_of_export(folder)
