"""A network in a line, from names and shapes."""

import pytest

from p10k_jax.weights.outline import outline
from tests.goldens import weight_recipe

DINOV2 = {name: array.shape for name, array in weight_recipe.dinov2().items()}
RESNET = {"conv1.weight": (64, 3, 7, 7), "bn1.weight": (64,), "fc.weight": (10, 512)}


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (DINOV2, "2 blocks of width 24 with patches of 4, a class token"),
        (DINOV2 | {"reg_token": (1, 4, 24)}, "2 blocks of width 24 with patches of 4, 4 registers and a class token"),
        (
            RESNET | {f"layer{s}.{b}.conv2.weight": (64, 64, 3, 3) for s, n in ((1, 3), (2, 12)) for b in range(n)},
            "stages of 3-12 basic blocks after a stem of 64 channels",
        ),
        (
            {"stem.conv.weight": (192, 3, 7, 7)}
            | {f"stages.{s}.blocks.{b}.conv3.weight": () for s, n in ((0, 3), (1, 4)) for b in range(n)},
            "stages of 3-4 pre-activation bottleneck blocks after a stem of 192 channels",
        ),
        ({"blocks.0.norm1.weight": (24,)}, ""),
        ({}, ""),
    ],
)
def test_blocks_width_and_patches(shapes, expected):
    assert outline(shapes) == expected
