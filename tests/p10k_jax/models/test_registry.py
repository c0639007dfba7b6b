import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.models import create
from p10k_jax.models.state_dict import from_timm, to_timm, tree_paths

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


@pytest.mark.parametrize("name", ["vit-S/X", "vit-XL/16", "resnet-51", "vit_base_patch16_dinov9", "ViT-S/16", ""])
def test_unknown_name_lists_the_known(name):
    with pytest.raises(ValueError, match=r"Unknown model .*Known: vit-Ti/\{patch\}.*resnet-152"):
        create(name, num_classes=3, image_size=32)


def test_bad_options():
    with pytest.raises(ValueError, match=r"'resnet-18' has no option width; known: blocks, bottleneck"):
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
    ("name", "same"),
    [
        ("vit_base_patch32_siglip_256", True),
        ("vit_large_patch16_siglip_512", True),
        ("vit_so400m_patch16_siglip_384", True),
        ("vit_large_patch16_siglip_384", False),
        ("vit_so400m_patch14_siglip_384", False),
    ],
)
def test_some_siglips_have_the_tanh_gelu(name, same):
    options = {"width": 24, "depth": 1, "heads": 3, "patch_size": 8}
    model, tanh = (
        create(n, num_classes=0, image_size=16, **options, **more)
        for n, more in ((name, {}), (name, {"activation": "gelu_tanh"}))
    )
    params, _ = jax.jit(model.init)(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.5 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
    images = jnp.asarray(np.random.RandomState(0).randn(2, 16, 16, 3), jnp.float32)
    difference = float(
        jnp.abs(model.apply(params, {}, images)[0].logits - tanh.apply(params, {}, images)[0].logits).max()
    )
    assert (difference == 0) == same


SMALL = {"vit-Ti/8": {"width": 48, "depth": 2}, "resnet-18": {"blocks": (1, 1, 1, 1)}}


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_compute_keeps_float32_parameters_and_logits(name):
    images = jnp.asarray(np.random.RandomState(0).randn(2, 32, 32, 3), jnp.float32)
    logits = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        model = create(name, num_classes=5, image_size=32, dtype=dtype, **SMALL[name])
        params, batch_stats = jax.jit(model.init)(jax.random.key(0))
        head = "head" if "vit" in name else "fc"
        params[head]["kernel"] = jax.random.normal(jax.random.key(1), params[head]["kernel"].shape)
        outputs, new_stats = jax.jit(model.apply, static_argnames="train")(params, batch_stats, images, train=True)
        logits[dtype] = outputs.logits
        for leaf in jax.tree.leaves((params, new_stats, logits[dtype])):
            assert leaf.dtype == jnp.float32
    scale = float(jnp.abs(logits[jnp.float32]).max())
    difference = float(jnp.abs(logits[jnp.float32] - logits[jnp.bfloat16]).max())
    assert 0 < difference < 0.05 * scale, "bfloat16 was not used, or is far off"


def test_state_dict_round_trip_and_its_errors():
    model = create("resnet-18", num_classes=5, image_size=32)
    params, _ = jax.jit(model.init)(jax.random.key(0))
    tensors = to_timm(params)
    assert tensors["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert tensors["fc.weight"].shape == (5, 512)
    back = from_timm(tensors, params)
    assert tree_paths(back).keys() == tree_paths(params).keys()
    jax.tree.map(np.testing.assert_array_equal, back, params)

    tensors["fc.weight"] = tensors["fc.weight"][:3]
    tensors["extra"] = tensors.pop("fc.bias")
    with pytest.raises(ValueError, match=r"missing fc\.bias\n  left over extra\n  fc\.weight has shape \(3, 512\)"):
        from_timm(tensors, params)
