"""Prints Markdown tables: the largest difference of a logit between timm's models and ours, with the same weights.

In a scratch environment, for timm brings torch:

    pip install timm -e . && python tests/goldens/parity.py > docs/timm_parity.md

First every name that `create` takes from timm: parameter names and shapes of the whole architecture, its norms' epsilon
and its heads, and the logits of one that is narrow and shallow. Then whole architectures at their own size, one at a
time. Fixed random weights and pictures (`recipe.py`), float32 on the CPU. Ends with status 1 where anything differs.
"""

import functools
import gc
import os
import platform
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import recipe
import timm
import torch

from p10k_jax.models import create
from p10k_jax.models.functional import Model
from p10k_jax.models.timm_names import FAMILIES, TIMM_NAMES, expand
from p10k_jax.weights.fit import fit_tensors
from p10k_jax.weights.state_dict import to_timm

# Whole architectures to compare: what fits 20 GB of memory with torch's and ours side by side.
NAMES = (
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_small_patch32_384",
    "vit_base_patch8_224",
    "vit_base_patch16_384",
    "vit_base_patch32_224",
    "vit_large_patch16_224",
    "vit_huge_patch14_224",
    "flexivit_small",
    "deit_small_patch16_224",
    "deit3_small_patch16_384",
    "deit3_medium_patch16_224",
    "deit3_base_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2",
    "vit_large_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch14_reg4_dinov2",
    "vit_base_patch14_reg1_tipsv2",
    "vit_base_patch32_clip_224",
    "vit_base_patch16_clip_224",
    "vit_base_patch16_clip_quickgelu_224",
    "vit_large_patch14_clip_336",
    "vit_huge_patch14_clip_224",
    "vit_base_patch16_siglip_224",
    "vit_base_patch32_siglip_256",
    "vit_large_patch16_siglip_512",
    "vit_so400m_patch14_siglip_384",
    "vit_so400m_patch16_siglip_256",
    "vit_base_patch16_siglip_gap_384",
    "vit_base_patch32_siglip_gap_256",
    "vit_large_patch16_siglip_gap_256",
    "vit_medium_patch16_gap_256",
    "vit_betwixt_patch16_reg4_gap_384",
    "vit_so150m_patch16_reg4_map_256",
    "eva02_tiny_patch14_336",
    "eva02_small_patch14_224",
    "eva02_base_patch14_448",
    "eva02_large_patch14_224",
    "eva02_base_patch16_clip_224",
    "eva02_large_patch14_clip_336",
    "vit_small_patch16_dinov3",
    "vit_small_patch16_dinov3_qkvb",
    "vit_small_plus_patch16_dinov3",
    "vit_base_patch16_dinov3",
    "vit_large_patch16_dinov3",
    "vit_base_patch16_lingbot",
    "vit_small_patch16_rope_mixed_ape_224",
    "vit_base_patch16_rope_reg1_gap_256",
    "vit_pe_core_base_patch16_224",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet18d",
    "resnet50d",
    "resnet101d",
    "resnet50t",
    "resnetaa50d",
    "resnetrs50",
    "seresnet50",
    "seresnet152d",
    "resnext50_32x4d",
    "resnext101_64x4d",
    "seresnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "resnetv2_50x1_bit",
    "resnetv2_50x3_bit",
    "resnetv2_101x1_bit",
    "resnetv2_152x2_bit",
)
EVERY_NAME = """Fixed random weights, float32.

Every name that `create` takes from timm: parameter names and shapes, depth, heads and the norms' epsilon are those of
timm's whole model; and of each kind, a small one's logits are compared (narrow, one block a stage). The difference is
relative to the standard deviation of timm's logits, or to 1 where that is less; 1e-4 is the most allowed."""
WHOLE_ARCHITECTURES = """Whole architectures at their own size, one picture, the largest absolute difference of 10
logits. Those of more than 700 million parameters are left out: they want more than 20 GB of memory."""
LIMIT = 1e-4  # of a difference, over the standard deviation of timm's logits or 1


class Comparison(NamedTuple):
    """Parameters, standard deviation of timm's logits, and the largest absolute difference of ours."""

    parameters: int
    scale: float
    difference: float

    @property
    def relative(self) -> float:
        return self.difference / max(1.0, self.scale)


def compare(make_theirs: Callable[[], torch.nn.Module], ours: Model, image: np.ndarray, side: int) -> Comparison:
    """One picture through both, with the same fixed weights; ours gets its first `side` rows and columns, for theirs
    ignores what its patches leave over."""
    theirs = make_theirs()
    weights = recipe.fixed_weights({key: tuple(value.shape) for key, value in theirs.state_dict().items()})
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=False)
    with torch.inference_mode():
        expected = theirs.eval()(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    del theirs  # its memory is wanted for ours
    gc.collect()
    params, batch_stats = jax.eval_shape(ours.init, jax.random.key(0))
    template = {"params": params, "batch_stats": batch_stats}
    fit = fit_tensors(weights, template, prefix_tokens=ours.prefix_tokens)
    if fit.new or fit.left_over or fit.resized:
        raise ValueError(str(fit))
    outputs, _ = jax.jit(ours.apply)(fit.weights["params"], fit.weights.get("batch_stats", {}), image[:, :side, :side])
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Comparison(size, float(expected.std()), float(np.abs(np.asarray(outputs.logits) - expected).max()))


def pixels(theirs: torch.nn.Module, patch_size: int = 1) -> int:
    """The side of its pictures, less what its patches leave over."""
    size = theirs.patch_embed.img_size if hasattr(theirs, "patch_embed") else theirs.pretrained_cfg["input_size"][1:]
    return size[0] // patch_size * patch_size


def small(settings: dict) -> tuple[dict, dict, int]:
    """What makes that architecture small, in our words and in timm's, and a side in pixels."""
    if "depth" in settings:
        ours = {"width": 48, "depth": 1, "heads": 3, "patch_size": 8}
        return ours, {"embed_dim": 48, "depth": 1, "num_heads": 3, "patch_size": 8, "img_size": 32}, 32
    if "bottleneck" in settings:
        blocks, widths = (1, 1, 1, 1), (16, 32, 64, 128)
        return {"blocks": blocks, "widths": widths}, {"layers": blocks, "channels": widths}, 64
    widths = (128, 128, 128, 128)
    return {"widths": widths}, {"channels": widths}, 64


def outlines_differ(name: str) -> str:
    """How the whole architectures differ, as far as that shows without weights; empty where they do not."""
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=recipe.NUM_CLASSES)
    settings = TIMM_NAMES[name][1]
    state = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    told = [settings["depth"]] if "depth" in settings else list(settings["blocks"])
    shallow = {"depth": 1} if "depth" in settings else {"blocks": (1,) * len(told)}
    side = pixels(theirs, settings.get("patch_size", 1))
    ours = create(name, num_classes=recipe.NUM_CLASSES, image_size=side, **shallow)
    params, batch_stats = jax.eval_shape(ours.init, jax.random.key(0))
    shapes = {}
    for tree in (params, batch_stats):
        zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), tree)
        shapes |= {key: value.shape for key, value in to_timm(zeros).items()}
    epsilons = {module.eps for module in theirs.modules() if isinstance(module, torch.nn.LayerNorm)}
    heads = {block.attn.num_heads for block in getattr(theirs, "blocks", ())}
    seen = {
        "depth": told == recipe.depths(state),
        "shapes": recipe.first_blocks(shapes) == recipe.first_blocks(state),
        "norm_epsilon": epsilons <= {settings.get("norm_epsilon", 1e-6)},
        "heads": heads <= {settings.get("heads")},
    }
    return ", ".join(what for what, same in seen.items() if not same)


def every_name() -> bool:
    """Prints a line a family about all names; whether they are all timm's."""
    print("| family | names | small ones | largest relative difference |\n|---|---|---|---|")
    problems = []
    for module, rows, _ in FAMILIES:
        names = [name for row in rows for name in expand(row.pattern)]
        worst, compared = 0.0, {}
        for name in names:
            if differ := outlines_differ(name):
                problems.append(f"{name}: {differ}")
            ours, theirs, side = small(TIMM_NAMES[name][1])
            rest = str(
                {
                    key: value
                    for key, value in TIMM_NAMES[name][1].items()
                    if key not in {*ours, "blocks", "width_factor"}
                }
            )
            if rest in compared:
                continue
            compared[rest] = name
            model = create(name, num_classes=recipe.NUM_CLASSES, image_size=side, **ours)
            image = recipe.fixed_images(side)[:1]
            make = functools.partial(timm.create_model, name, num_classes=recipe.NUM_CLASSES, **theirs)
            result = compare(make, model, image, side)
            worst = max(worst, result.relative)
            if result.relative > LIMIT:
                problems.append(f"{name}: small, its logits differ by {result.difference:.1e} of {result.scale:.2f}")
        print(f"| {module.__name__} | {len(names)} | {len(compared)} | {worst:.1e} |", flush=True)
    for problem in problems:
        print(f"\n- {problem}")
    return not problems


def whole_architectures() -> bool:
    """Prints a line a name; whether all are close enough."""
    print("| timm name | pixels | parameters | logits' std | largest difference |\n|---|---|---|---|---|")
    worst = 0.0
    for name in NAMES:
        make = functools.partial(timm.create_model, name, num_classes=recipe.NUM_CLASSES)
        with torch.device("meta"):
            outline = make()
        side = pixels(outline, TIMM_NAMES[name][1].get("patch_size", 1))
        image = recipe.fixed_images(pixels(outline))[:1]
        result = compare(make, create(name, num_classes=recipe.NUM_CLASSES, image_size=side), image, side)
        jax.clear_caches()
        worst = max(worst, result.relative)
        row = f"{side} | {result.parameters:,} | {result.scale:.2f} | {result.difference:.1e}"
        print(f"| {name} | {row} |", flush=True)
    return worst <= LIMIT


if __name__ == "__main__":
    print("# Against timm\n\n    pip install timm -e . && python tests/goldens/parity.py > docs/timm_parity.md\n")
    print(f"timm {timm.__version__}, torch {torch.__version__}, jax {jax.__version__}; ", end="")
    print(f"{os.cpu_count()} CPU cores, {platform.machine().replace('_', '-')}. {EVERY_NAME}\n")
    names_agree = every_name()
    print(f"\n{WHOLE_ARCHITECTURES}\n")
    whole_agree = whole_architectures()
    if not (names_agree and whole_agree):
        sys.exit(f"something differs by more than {LIMIT} of the logits' scale")
