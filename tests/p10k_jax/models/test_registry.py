import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.models import create, known_names
from p10k_jax.models.timm_names import FAMILIES, TIMM_NAMES, expand
from p10k_jax.weights.fit import fit_tensors
from p10k_jax.weights.state_dict import to_timm, tree_paths
from tests.goldens import recipe

TIMM = json.loads((Path(recipe.__file__).parent / "shapes.json").read_text())

# Parameters of timm's models with 1,000 classes (timm's own results tables).
PARAMETERS = {
    ("vit-Ti/16", 224): 5_717_416,
    ("vit-S/16", 224): 22_050_664,
    ("vit-B/16", 224): 86_567_656,
    ("vit-L/16", 224): 304_326_632,
    ("resnet-18", 224): 11_689_512,
    ("resnet-34", 224): 21_797_672,
    ("resnet-50", 224): 25_557_032,
    ("resnet-101", 224): 44_549_160,
    ("resnet-152", 224): 60_192_808,
}


@pytest.mark.parametrize(("name", "image_size"), PARAMETERS)
def test_number_of_parameters(name, image_size):
    model = create(name, num_classes=1000, image_size=image_size)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[name, image_size]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family[0].__name__)
def test_names_and_shapes_equal_timms(family):
    _, rows, _ = family
    for name in (expand(row.pattern)[-1] for row in rows):
        pixels, depths, digest = TIMM["models"][name]
        module, settings = TIMM_NAMES[name]
        told = [settings["depth"]] if "depth" in settings else list(settings["blocks"])
        assert told == depths, name
        shallow = {"depth": 1} if "depth" in settings else {"blocks": (1,) * len(depths)}
        pixels -= pixels % settings.get("patch_size", 1)  # what a convolution leaves over
        model = create(name, num_classes=recipe.NUM_CLASSES, image_size=pixels, **shallow)
        params, batch_stats = jax.eval_shape(model.init, jax.random.key(0))
        zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), params | {"~": batch_stats})
        shapes = {key.removeprefix("~."): value.shape for key, value in to_timm(zeros).items()}
        assert recipe.digest(recipe.first_blocks(shapes)) == digest, f"{name} ({module.__name__})"


def test_no_other_name_of_timms_is_taken():
    assert TIMM_NAMES.keys() <= TIMM["models"].keys()
    assert {"vit_base_patch16_rpn_224", "vit_base_r50_s16_224", "deit_base_distilled_patch16_224"} <= {
        *TIMM["models"],
        *TIMM["others"],
    } - TIMM_NAMES.keys()
    for name in {*TIMM["models"], *TIMM["others"]} - TIMM_NAMES.keys():
        if name.startswith(
            ("vit", "deit", "eva", "flexivit", "resnet", "seresne", "legacy_seres", "ecaresnet", "test")
        ):
            with pytest.raises(ValueError, match="Unknown model"):
                create(name, num_classes=3, image_size=224)


def test_known_names_are_what_is_taken():
    listed = {name.replace("{patch}", "16") for pattern in known_names() for name in expand(pattern)}
    listed = {name.replace("patch", "16") if name.endswith("/patch") else name for name in listed}
    assert TIMM_NAMES.keys() < listed
    assert {"vit-Ti/16", "resnet-50", "resnet50", "resnet-50d", "seresnet-50", "wide_resnet-50_2", "bit-50x1"} < listed
    assert len(listed) == len(TIMM_NAMES) + 8 + 6 + len(
        [n for n, (m, _) in TIMM_NAMES.items() if m.__name__ == "ResNet"]
    )


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("resnet-18", "resnet18"),
        ("resnet18.a1_in1k", "resnet18"),
        ("vit-Ti/16", "vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.augreg_in21k", "vit_tiny_patch16_224"),
    ],
)
def test_names_for_the_same(name, same):
    trees = [jax.eval_shape(create(n, num_classes=3, image_size=32).init, jax.random.key(0)) for n in (name, same)]
    assert jax.tree.map(lambda leaf: leaf.shape, trees[0]) == jax.tree.map(lambda leaf: leaf.shape, trees[1])


@pytest.mark.parametrize(
    "name",
    [
        "vit-S/X",
        "vit-XL/16",
        "resnet-51",
        "resnet50-d",
        "vit_base_patch16_dinov9",
        "vit_base_patch8_384",
        "vit_tiny_patch16_dinov3",
        "resnetv2_50",
        "bit-50x2",
        "resnet-50.a1_in1k",
        "resnet50.",
        "ViT-S/16",
        "",
    ],
)
def test_unknown_name_lists_the_known(name):
    with pytest.raises(ValueError, match=r"Unknown model .*Known: vit-Ti/\{patch\}.*resnet\{-,\}\{18.*resnetv2_\{50x1"):
        create(name, num_classes=3, image_size=32)


def test_a_close_name_is_offered():
    with pytest.raises(
        ValueError, match=r"Unknown model 'vit_smal_patch14_dinov2'\. Did you mean 'vit_small_patch14_d"
    ):
        create("vit_smal_patch14_dinov2", num_classes=3, image_size=32)


def test_bad_options():
    with pytest.raises(ValueError, match=r"'resnet-18' has no option width; known: antialias, .*blocks, bottleneck"):
        create("resnet-18", num_classes=3, image_size=32, width=3)
    with pytest.raises(ValueError, match=r"image_size=30 is not a multiple of patch_size=8; try 32"):
        create("vit-Ti/8", num_classes=3, image_size=30)
    with pytest.raises(ValueError, match=r"width=100 is not a multiple of heads=3"):
        create("vit-Ti/8", num_classes=3, image_size=32, width=100)
    with pytest.raises(ValueError, match=r"pool='max' is unknown"):
        create("vit-Ti/8", num_classes=3, image_size=32, pool="max")
    with pytest.raises(ValueError, match="num_classes=-1"):
        create("vit-Ti/8", num_classes=-1, image_size=32)


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("vit_base_patch32_siglip_256", "gelu_tanh"),
        ("vit_large_patch16_siglip_512", "gelu_tanh"),
        ("vit_large_patch16_siglip_gap_512", "gelu_tanh"),
        ("vit_so400m_patch16_siglip_384", "gelu_tanh"),
        ("vit_giantopt_patch16_siglip_256", "gelu_tanh"),
        ("vit_large_patch16_siglip_384", "gelu"),
        ("vit_so400m_patch14_siglip_384", "gelu"),
        ("vit_so400m_patch14_siglip_gap_896", "gelu"),
        ("vit_huge_patch14_clip_quickgelu_378", "quick_gelu"),
        ("vit_huge_patch14_clip_378", "gelu"),
    ],
)
def test_kinds_of_gelu(name, activation):
    assert TIMM_NAMES[name][1].get("activation", "gelu") == activation


SMALL = {
    "vit-Ti/8": {"width": 48, "depth": 2},
    "resnet-18": {"blocks": (1, 1, 1, 1)},
    "bit-50x1": {"blocks": (1, 1), "widths": (128, 128), "stem_width": 32},
    "vit_small_plus_patch16_dinov3": {"width": 48, "depth": 2, "heads": 3, "patch_size": 8},
}


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_compute_keeps_float32_parameters_and_logits(name):
    # Of two pictures, a norm over the one pixel of the last stage would give signs alone, which a rounding may turn.
    images = jnp.asarray(np.random.RandomState(0).randn(8, 32, 32, 3), jnp.float32)
    logits = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        model = create(name, num_classes=5, image_size=32, dtype=dtype, **SMALL[name])
        params, batch_stats = jax.jit(model.init)(jax.random.key(0))
        head = params["fc"] if "resnet" in name else params["head"]
        head = head["fc"] if name.startswith("bit") else head
        head["kernel"] = jax.random.normal(jax.random.key(1), head["kernel"].shape)
        outputs, new_stats = jax.jit(model.apply, static_argnames="train")(params, batch_stats, images, train=True)
        logits[dtype] = outputs.logits
        for leaf in jax.tree.leaves((params, new_stats, logits[dtype])):
            assert leaf.dtype == jnp.float32
    scale = float(jnp.abs(logits[jnp.float32]).max())
    difference = float(jnp.abs(logits[jnp.float32] - logits[jnp.bfloat16]).max())
    assert 0 < difference < 0.05 * scale, "bfloat16 was not used, or is far off"


def test_state_dict_round_trip_and_its_errors():
    model = create("resnet-18", num_classes=5, image_size=32)
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    tree = {"params": params, "batch_stats": batch_stats}
    tensors = to_timm(params) | to_timm(batch_stats)
    assert tensors["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert tensors["fc.weight"].shape == (5, 512)
    back = fit_tensors(tensors, tree).weights
    assert tree_paths(back).keys() == tree_paths(tree).keys()
    jax.tree.map(np.testing.assert_array_equal, back, tree)

    tensors["conv1.weight"] = tensors["conv1.weight"][:3]
    tensors["extra"] = tensors.pop("bn1.bias")
    problems = (r"conv1\.weight has shape \(7, 7, 3, 3\)", r"missing bn1\.bias", "left over extra")
    with pytest.raises(ValueError, match="(?s)" + "".join(f"(?=.*{problem})" for problem in problems)):
        fit_tensors(tensors, tree)
