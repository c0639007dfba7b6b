"""What is exported says what the run says: in timm's names, and as a program without this package."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from configs import finetune
from p10k_jax.data.augment import normalise
from p10k_jax.export import export_jax, export_timm
from p10k_jax.finished import open_run
from p10k_jax.models import HeadSettings, create
from p10k_jax.reporting.progress import Console
from p10k_jax.setup import normalisation
from p10k_jax.train import plan, train
from p10k_jax.weights.files import read_weights
from p10k_jax.weights.fit import fit_tensors
from p10k_jax.weights.state_dict import to_timm
from p10k_jax.weights.timm_export import options_of_timm, timm_model, timm_tensors
from tests.runs import start, tiny_config

PICTURES = np.random.RandomState(0).randint(0, 256, (3, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def odd_run(tiny_data, tmp_path_factory):
    """A run with neck and cosine head."""
    workdir = tmp_path_factory.mktemp("odd") / "workdir"
    overrides = {"head.name": "cosine", "head.embedding_size": 16, "head.bnneck": True, "duration.steps": 4}
    train(plan(tiny_config(tiny_data, **overrides, **{"loss.group_weight": 0.1}), workdir), Console())
    return open_run(workdir)


def ours(run):
    """The run's outputs."""
    weights = run.weights()
    images = normalise(jnp.asarray(PICTURES, jnp.float32), normalisation(run.config))
    return run.model.apply(weights["params"], weights["batch_stats"], images)[0]


def theirs(folder, run):
    """Logits by the exported folder alone, as one linear layer on the trunk."""
    config = json.loads((folder / "config.json").read_text())
    file = read_weights(str(folder))
    arguments = config["model_args"]
    model = create(
        "vit-Ti/8",
        num_classes=config["num_classes"],
        image_size=arguments["img_size"],
        width=arguments["embed_dim"],
        depth=arguments["depth"],
        heads=arguments["num_heads"],
        pool=arguments["global_pool"],
    )
    params, batch_stats = jax.eval_shape(model.init, jax.random.key(0))
    fit = fit_tensors(file.tensors, {"params": params, "batch_stats": batch_stats}, prefix_tokens=model.prefix_tokens)
    assert (fit.new, fit.left_over, fit.resized) == ((), (), ())
    assert file.preprocessing.mean == tuple(run.config.data.mean)
    images = normalise(jnp.asarray(PICTURES, jnp.float32), normalisation(run.config))
    return model.apply(fit.weights["params"], {}, images)[0].logits


def test_timms_folder_has_the_runs_logits(finished, tmp_path):
    run = open_run(finished[0])
    said = export_timm(run, tmp_path)
    np.testing.assert_allclose(theirs(tmp_path, run), ours(run).logits, rtol=1e-5, atol=1e-5)
    assert f'timm.create_model("local-dir:{tmp_path}", pretrained=True)' in said
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architecture"], config["pretrained_cfg"]["input_size"]) == ("vit_base_patch16_224", [3, 32, 32])
    assert (config["pretrained_cfg"]["classifier"], config["pretrained_cfg"]["crop_mode"]) == ("head", "squash")


def test_neck_and_cosine_head_become_one_linear_layer_of_the_same_ranking(odd_run, tmp_path):
    said = export_timm(odd_run, tmp_path)
    outputs = ours(odd_run)
    lengths = np.linalg.norm(outputs.embedding, axis=1, keepdims=True)
    np.testing.assert_allclose(theirs(tmp_path, odd_run), outputs.logits * lengths, rtol=1e-4, atol=1e-4)
    assert "ranking of the classes is the same" in said


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet-18", {"blocks": (1, 1, 1, 1)}),
        pytest.param("bit-50x1", {"blocks": (1, 1, 1, 1)}, marks=pytest.mark.long),
    ],
)
def test_linear_head_on_a_neck_keeps_its_logits(name, options):
    head = HeadSettings(embedding_size=7, bnneck=True)
    model = create(name, num_classes=5, image_size=32, head=head, **options)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 500))
    params, stats = jax.tree.map(lambda leaf: leaf + 0.2 * jax.random.uniform(next(keys), leaf.shape), (params, stats))
    tensors, note = timm_tensors(params, stats, head)
    plain = create(name, num_classes=5, image_size=32, **options)
    shapes = dict(zip(("params", "batch_stats"), jax.eval_shape(plain.init, jax.random.key(0)), strict=True))
    fit = fit_tensors(tensors, shapes)
    assert (fit.new, fit.left_over) == ((), ())
    if name == "bit-50x1":
        assert tensors["head.fc.weight"].shape[2:] == (1, 1), "a convolution, as timm has it"
    images = jax.random.normal(jax.random.key(2), (2, 32, 32, 3))
    expected = model.apply(params, stats, images)[0].logits
    ours = plain.apply(fit.weights["params"], fit.weights.get("batch_stats", {}), images)[0].logits
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * float(jnp.abs(expected).max()))
    assert note == ""


def test_the_program_runs_without_this_package(odd_run, tmp_path):
    export_jax(odd_run, tmp_path)
    np.save(tmp_path / "x.npy", PICTURES.astype(np.float32))
    usage = (tmp_path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    script = usage.replace("numpy.zeros((8, 32, 32, 3), numpy.float32)", 'numpy.load("x.npy")')
    script += (
        '\nnumpy.savez("y.npz", **outputs)\nimport sys\nassert not [m for m in sys.modules if m.startswith("p10k_jax")]'
    )
    process = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    outputs = np.load(tmp_path / "y.npz")
    for name, value in ours(odd_run)._asdict().items():
        if name in outputs:
            np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-4)
    assert set(outputs) == {"logits", "embedding"}


@pytest.mark.parametrize(
    ("name", "options", "architecture", "arguments"),
    [
        ("vit_small_patch14_dinov2.lvd142m", {"drop_path": 0.1}, "vit_small_patch14_dinov2", {"img_size": 126}),
        ("vit_base_patch16_224", {"pool": "avg"}, "vit_base_patch16_224", {"img_size": 126, "global_pool": "avg"}),
        ("resnet-50", {}, "resnet50", {}),
        ("bit-50x1", {"drop_path": 0.2}, "resnetv2_50x1_bit", {}),
        ("eva02_tiny_patch14_224", {"pool": "avg"}, "eva02_tiny_patch14_224", {"img_size": 126}),
    ],
)
def test_models_in_timms_terms(name, options, architecture, arguments):
    assert timm_model(name, options, 126) == (architecture, arguments)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit-Ti/8", {"depth": 2, "layer_scale": 0.1, "registers": 2, "qk_norm": True, "activation": "gelu_tanh"}),
        ("vit-S/16", {"depth": 1, "pool": "avg", "class_token": False, "positions": "none", "layer_scale": 0.0}),
        ("vit-S/16", {"depth": 1, "registers": 4, "embed_prefix": False, "pool": "map", "qkv_bias": False}),
        ("vit_small_patch14_dinov2", {"depth": 1, "layer_scale": 0.0}),
        ("eva02_tiny_patch14_224", {}),
        ("resnet-18", {}),
        ("bit-50x1", {}),
    ],
)
def test_what_timm_is_told_comes_back_as_the_same_model(name, options):
    architecture, arguments = timm_model(name, options, 112)
    back = create(architecture, num_classes=3, **{"image_size": 112} | options_of_timm(arguments, "here"))
    there = create(name, num_classes=3, image_size=112, **options)
    images = jax.ShapeDtypeStruct((2, 112, 112, 3), jnp.float32)
    shapes = [jax.eval_shape(model.init, jax.random.key(0)) for model in (there, back)]
    assert shapes[0] == shapes[1]
    # The same program, with whatever has no parameters: activation, pooling, number of heads.
    programs = [str(jax.make_jaxpr(lambda *a, m=m: m.apply(*a)[0].logits)(*shapes[0], images)) for m in (there, back)]
    assert programs[0] == programs[1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit-S/16", {"pool": "gem"}, r"no argument for model\.options\.pool='gem'; --format=jax has all"),
        ("resnet-50", {"pool": "gem"}, r"resnet50 has no argument for model\.options\.pool"),
        ("vit_base_patch16_224", {"norm_epsilon": 1e-5}, r"no argument for model\.options\.norm_epsilon"),
    ],
)
def test_what_timm_has_no_counterpart_of(name, options, message):
    with pytest.raises(ValueError, match=message):
        timm_model(name, options, 224)


def test_sub_centres_are_no_linear_layer():
    with pytest.raises(ValueError, match="3 sub-centres a class is no linear layer"):
        timm_tensors({"head": {"kernel": np.ones((4, 15))}}, {}, HeadSettings("cosine", subcentres=3))


def test_command_line(finished, tmp_path):
    folder = tmp_path / "out"
    arguments = [f"--workdir={finished[0]}", f"--output={folder}"]
    for more, code, message in (
        (["--format=onnx"], 2, "--format='onnx' is unknown; known: timm, jax."),
        ([], 0, "timm.create_model("),
        ([], 2, "holds README.md, classes.csv, config.json; give an empty folder."),
    ):
        process = start("export", [*arguments, *more])
        output, _ = process.communicate(timeout=300)
        assert (process.returncode, message in output) == (code, True), output
        assert "Traceback" not in output


@pytest.mark.parametrize(
    ("name", "options"), [("vit_tiny_patch16_224", {"pool": "token"}), ("resnet18.a1_in1k", {"frozen_norms": True})]
)
def test_weights_that_nothing_trains_come_out_as_they_went_in(name, options, tiny_data, tmp_path):
    bare = {key: value for key, value in options.items() if key != "frozen_norms"}
    model = create(name, num_classes=6, image_size=32, **bare)
    shapes = dict(zip(("params", "batch_stats"), jax.eval_shape(model.init, jax.random.key(0)), strict=True))
    random = np.random.RandomState(0)
    trees = jax.tree.map(lambda leaf: random.rand(*leaf.shape).astype(np.float32), shapes)
    given = to_timm(trees["params"]) | to_timm(trees["batch_stats"])
    safetensors.numpy.save_file(given, tmp_path / "given.safetensors")
    config = finetune.get_config(f"model={name}")
    config.model.options.update(options)
    config.model.weights = str(tmp_path / "given.safetensors")
    config.optimizer.rates = ((".", 0.0),)
    config.not_finite = "skip"  # weights of chance need not say anything
    config.data.update({"name": "drawn_catalogue", "config": "tiny", "data_dir": str(tiny_data), "image_size": 32})
    config.duration.epochs, config.duration.steps, config.batch_size, config.eval.split = None, 1, 8, ""
    train(plan(config, tmp_path / "workdir"), Console())
    export_timm(open_run(tmp_path / "workdir"), tmp_path / "out")
    taken = read_weights(str(tmp_path / "out")).tensors
    assert taken.keys() == given.keys()
    for key, value in given.items():
        np.testing.assert_array_equal(taken[key], value, err_msg=key)
