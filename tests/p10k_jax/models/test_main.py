"""`python -m p10k_jax.models`: a checkpoint against its source, and bad input."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from p10k_jax.models import create
from p10k_jax.models.__main__ import main
from p10k_jax.models.state_dict import to_timm
from tests.goldens import recipe

GOLDENS = json.loads((Path(recipe.__file__).parent / "models.json").read_text())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The fixed weights and images of the golden ResNet-18, as files."""
    folder = tmp_path_factory.mktemp("files")
    model = create("resnet-18", num_classes=recipe.NUM_CLASSES, image_size=64)
    shapes = {}
    for tree in jax.eval_shape(model.init, jax.random.key(0)):
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), tree)
        shapes |= {name: value.shape for name, value in to_timm(zeros).items()}
    weights = recipe.fixed_weights(shapes)
    safetensors.numpy.save_file(weights, folder / "whole.safetensors")
    trunk = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    safetensors.numpy.save_file(trunk, folder / "trunk.safetensors")
    np.save(folder / "x.npy", recipe.fixed_images(64))
    return folder, weights


def run(folder, *arguments, weights="whole", images="x"):
    output = folder / "out" / "y.npy"
    flags = [f"--weights={folder / weights}.safetensors", f"--input={folder / images}.npy", f"--output={output}"]
    return main([*arguments, *flags]), output


def test_logits_of_a_file_equal_timms(files, capsys):
    folder, _ = files
    status, output = run(folder, "resnet18.a1_in1k")
    assert status == 0
    logits = np.load(output)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, GOLDENS["resnet-18"]["logits"], atol=1e-4)
    said = capsys.readouterr().out
    assert "102 tensors, 11,191,242 parameters and statistics loaded, the classifier among them" in said


def test_a_file_without_classifier_gives_the_embedding(files, capsys):
    folder, weights = files
    status, output = run(folder, "resnet18", weights="trunk")
    assert status == 0
    embedding = np.load(output)
    assert embedding.shape == (recipe.BATCH, 512)
    logits = embedding @ weights["fc.weight"].T + weights["fc.bias"]
    np.testing.assert_allclose(logits, GOLDENS["resnet-18"]["logits"], atol=1e-4)
    assert "no classifier in the file" in capsys.readouterr().out


def test_what_a_model_is(capsys):
    assert main(["vit_base_patch16_224"]) == 0
    text = capsys.readouterr().out
    assert "parameters  86,567,656" in text
    # 17.58 G multiply-adds (Steiner et al., arXiv 2106.10270), each two operations.
    gflop = float(text.split("forward")[1].split()[0])
    assert abs(gflop / 35.2 - 1) < 0.02
    assert "known: vit-Ti/{patch}" in text


def test_bad_input_writes_nothing(files, capsys):
    folder, _ = files
    np.save(folder / "double.npy", recipe.fixed_images(64).astype(np.float64))
    np.save(folder / "flat.npy", np.zeros((2, 64, 32, 3), np.float32))
    cases = [
        (("resnet19",), {}, r"Unknown model 'resnet19'"),
        (("resnet34",), {}, "The weights do not fit the model"),
        (("resnet18",), {"images": "double"}, "--input is float64"),
        (("resnet18",), {"images": "flat"}, "--input has shape (2, 64, 32, 3)"),
        (("resnet18",), {"images": "none"}, "No such file"),
        (("resnet18",), {"weights": "none"}, "there is no such file"),
    ]
    for output in folder.glob("out/*"):
        output.unlink()
    for arguments, settings, message in cases:
        status, output = run(folder, *arguments, **settings)
        assert status == 2
        assert message in capsys.readouterr().err
        assert not output.exists()
    assert main(["resnet18", f"--weights={folder / 'whole.safetensors'}"]) == 2
    assert "needs --input" in capsys.readouterr().err
