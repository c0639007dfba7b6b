import jax

from p10k_jax.models import HeadSettings, create
from p10k_jax.training.layers import is_head, layer_numbers


def test_layers_are_numbered_as_timm_numbers_them():
    vit = create("vit-Ti/16", num_classes=3, image_size=32)
    numbers, layers = layer_numbers(jax.eval_shape(vit.init, jax.random.key(0))[0])
    assert layers == 14
    assert numbers["blocks"]["10"]["attn"]["qkv"]["kernel"] == 11
    assert (numbers["cls_token"], numbers["pos_embed"], numbers["patch_embed"]["proj"]["bias"]) == (0, 0, 0)
    assert (numbers["norm"]["scale"], numbers["head"]["bias"]) == (12, 13)
    resnet = create("resnet-18", num_classes=3, image_size=32)
    numbers, layers = layer_numbers(jax.eval_shape(resnet.init, jax.random.key(0))[0])
    assert (layers, numbers["bn1"]["scale"], numbers["fc"]["bias"]) == (10, 0, 9)
    assert [numbers[f"layer{i}"][j]["conv1"]["kernel"] for i in (1, 2, 3, 4) for j in "01"] == [*range(1, 9)]


def test_residual_stages_by_timms_other_names():
    params = {
        "stem": 0,
        "norm_pre": {"scale": 0},
        "stages": {str(s): {"blocks": {str(b): {"conv": 0} for b in range(2)}} for s in range(2)},
    }
    numbers, layers = layer_numbers(params | {"norm": {"scale": 0}, "head": {"fc": 0}})
    assert (layers, numbers["norm_pre"]["scale"], numbers["norm"]["scale"], numbers["head"]["fc"]) == (6, 0, 4, 5)
    found = [numbers["stages"][str(s)]["blocks"][str(b)]["conv"] for s in range(2) for b in range(2)]
    assert found == [1, 2, 3, 4]


def test_neck_and_heads_are_the_last_layer():
    head = HeadSettings(embedding_size=4, bnneck=True, num_groups=2)
    model = create("resnet-18", num_classes=3, image_size=32, head=head)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    numbers, layers = layer_numbers(params)
    for part in ("neck", "fc", "group_head"):
        assert set(jax.tree.leaves(numbers[part])) == {layers - 1}
    heads = is_head(params)
    assert {part for part in params if all(jax.tree.leaves(heads[part]))} == {"neck", "fc", "group_head"}
