"""Prints a Markdown table: the largest difference of a logit between timm's models and ours, with the same weights.

In a scratch environment, for timm brings torch:

    pip install timm -e . && python tests/goldens/parity.py > parity.md

Whole architectures at their own size, fixed random weights (`recipe.py`), one random picture, float32 on the CPU.
"""

import sys

import jax
import numpy as np
import recipe
import timm
import torch

from p10k_jax.models import create
from p10k_jax.models.pretrained import fit_tensors

NAMES = (
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_small_patch32_224",
    "vit_base_patch8_224",
    "vit_base_patch16_224",
    "vit_base_patch32_224",
    "vit_large_patch16_224",
    "vit_huge_patch14_224",
    "vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2",
    "vit_large_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch14_reg4_dinov2",
    "vit_large_patch14_reg4_dinov2",
    "vit_base_patch32_clip_224",
    "vit_base_patch16_clip_224",
    "vit_base_patch16_clip_quickgelu_224",
    "vit_large_patch14_clip_224",
    "vit_large_patch14_clip_336",
    "vit_base_patch16_siglip_224",
    "vit_base_patch32_siglip_256",
    "vit_large_patch16_siglip_256",
    "vit_large_patch16_siglip_512",
    "vit_so400m_patch14_siglip_224",
    "vit_so400m_patch16_siglip_256",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
)


def compare(name: str) -> tuple[int, int, float, float]:
    """(image side in pixels, parameters, standard deviation of timm's logits, largest absolute difference of ours)."""
    theirs = timm.create_model(name, num_classes=recipe.NUM_CLASSES).eval()
    side = theirs.pretrained_cfg["input_size"][1]
    weights = recipe.fixed_weights({key: tuple(value.shape) for key, value in theirs.state_dict().items()})
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=False)
    image = recipe.fixed_images(side)[:1]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    del theirs
    ours = create(name, num_classes=recipe.NUM_CLASSES, image_size=side)
    params, batch_stats = jax.eval_shape(ours.init, jax.random.key(0))
    template = {"params": params, "batch_stats": batch_stats}
    fit = fit_tensors(weights, template, prefix_tokens=ours.prefix_tokens)
    if fit.new or fit.left_over or fit.resized:
        raise ValueError(f"{name}: {fit}")
    outputs, _ = jax.jit(ours.apply)(fit.weights["params"], fit.weights.get("batch_stats", {}), image)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return side, size, float(expected.std()), float(np.abs(np.asarray(outputs.logits) - expected).max())


if __name__ == "__main__":
    print(f"timm {timm.__version__}, torch {torch.__version__}, jax {jax.__version__}\n")
    print("| timm name | pixels | parameters | logits' std | largest difference |\n|---|---|---|---|---|")
    worst = 0.0
    for name in NAMES:
        side, size, std, difference = compare(name)
        worst = max(worst, difference / max(1.0, std))
        print(f"| {name} | {side} | {size:,} | {std:.2f} | {difference:.1e} |", flush=True)
    if worst > 1e-4:
        sys.exit(f"the largest difference is {worst:.1e} of the logits' scale: more than 1e-4")
