"""`python -m p10k_jax.models`: a checkpoint against its source, and bad input."""

import hashlib
import json
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import constants

from p10k_jax.models import create
from p10k_jax.models.__main__ import main
from p10k_jax.models.timm_names import TIMM_NAMES
from p10k_jax.models.vit import VisionTransformer, ViTShape
from p10k_jax.weights.state_dict import to_timm
from tests.goldens import recipe, weight_recipe

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


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(folder, *arguments, weights="whole.safetensors", images="x"):
    output = folder / "out" / "y.npy"
    flags = [f"--weights={folder / weights}", f"--input={folder / images}.npy", f"--output={output}"]
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
    assert f"source: {folder}/whole.safetensors; timm's names\nsha256: {sha256(folder / 'whole.safetensors')}\n" in said
    assert (
        "preprocessing: mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225), 224 pixels (by the model's name)" in said
    )


def test_logits_of_a_folder_and_of_the_hubs_cache(files, tmp_path, monkeypatch, capsys):
    """The cache as the hub's client lays it out: the files under a commit, a branch's name beside it."""
    folder, _ = files
    repository, commit = tmp_path / "models--timm--resnet18.a1_in1k", "0" * 40
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (snapshot / "model.safetensors").symlink_to(folder / "whole.safetensors")
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 288, 288]}
    (snapshot / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": settings}))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for source in (str(snapshot), "hf_hub:timm/resnet18.a1_in1k"):
        output = tmp_path / "y.npy"
        assert main(["resnet18", f"--weights={source}", f"--input={folder / 'x.npy'}", f"--output={output}"]) == 0
        np.testing.assert_allclose(np.load(output), GOLDENS["resnet-18"]["logits"], atol=1e-4)
        output.unlink()
        said = capsys.readouterr().out
        assert f"sha256: {sha256(folder / 'whole.safetensors')}" in said
        assert "preprocessing: mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5), 288 pixels\n" in said
    assert f"source: hf_hub:timm/resnet18.a1_in1k at {commit} (resnet18); timm's names" in said


@pytest.mark.parametrize(
    ("archive", "name", "settings"),
    [
        ("vit", "vit_tiny_patch4_16", {}),
        ("siglip", "vit_tiny_patch4_siglip_16", {"class_token": False, "pool": "map"}),
    ],
)
def test_logits_of_an_archive_equal_timms(archive, name, settings, tmp_path, monkeypatch, capsys):
    shape = ViTShape(weight_recipe.WIDTH, weight_recipe.DEPTH, weight_recipe.HEADS, mlp_ratio=2.0)
    monkeypatch.setitem(TIMM_NAMES, name, (VisionTransformer, shape._asdict() | {"patch_size": 4} | settings))
    np.savez(tmp_path / "x.npz", **weight_recipe.ARCHIVES[archive])
    np.save(tmp_path / "x.npy", recipe.fixed_images(16))
    status, output = run(tmp_path, name, weights="x.npz")
    assert status == 0
    goldens = json.loads((Path(recipe.__file__).parent / "weights.json").read_text())
    np.testing.assert_allclose(np.load(output), goldens["logits"][archive], atol=2e-4)
    assert "preprocessing: mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5), 16 pixels\n" in capsys.readouterr().out


def test_a_file_without_classifier_gives_the_embedding(files, capsys):
    folder, weights = files
    status, output = run(folder, "resnet18", weights="trunk.safetensors")
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
    np.save(folder / "none_at_all.npy", np.zeros((0, 64, 64, 3), np.float32))
    np.save(folder / "objects.npy", np.array([{}], object))
    (folder / "pickle.npy").write_bytes(pickle.dumps([1]))
    (folder / "empty.npy").touch()
    (folder / "cut.npy").write_bytes((folder / "x.npy").read_bytes()[:2_000])
    np.savez(folder / "archive", a=np.zeros(3))
    (folder / "archive.npz").rename(folder / "archive.npy")
    (folder / "directory.npy").mkdir()
    cases = [
        (("resnet19",), {}, r"Unknown model 'resnet19'"),
        (("resnet34",), {}, "The weights do not fit the model"),
        (("resnet18",), {"images": "double"}, "double.npy is float64"),
        (("resnet18",), {"images": "flat"}, "flat.npy has shape (2, 64, 32, 3)"),
        (("resnet18",), {"images": "none"}, "No such file"),
        (("resnet18",), {"images": "none_at_all"}, "has shape (0, 64, 64, 3)"),
        (("resnet18",), {"images": "objects"}, "is no .npy file of numbers"),
        (("resnet18",), {"images": "pickle"}, "is no .npy file of numbers"),
        (("resnet18",), {"images": "empty"}, "is no .npy file of numbers"),
        (("resnet18",), {"images": "cut"}, "is no .npy file of numbers"),
        (("resnet18",), {"images": "archive"}, "is an archive"),
        (("resnet18",), {"images": "directory"}, "Is a directory"),
        (("resnet18",), {"weights": "none.safetensors"}, "there is no such file"),
        (("resnet18",), {"weights": "x.npy"}, "is no .safetensors or .npz file"),
    ]
    for output in folder.glob("out/*"):
        output.unlink()
    for arguments, settings, message in cases:
        status, output = run(folder, *arguments, **settings)
        assert status == 2
        said = capsys.readouterr()
        assert message in said.err
        assert said.err.startswith("error: ")
        assert not said.out
        assert not output.exists()
    assert main(["resnet18", f"--weights={folder / 'whole.safetensors'}"]) == 2
    assert "needs --input" in capsys.readouterr().err
