"""timm's names of the architectures that this package has, with what they stand for.

Only what equals timm's model of that name is here: parameter names and shapes (`tests/goldens/shapes.json`) and outputs
(`docs/timm_parity.md`). A name that is missing is unknown, not guessed.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from p10k_jax.models.eva import Eva
from p10k_jax.models.heads import Classifier
from p10k_jax.models.resnet import RESNET_SHAPES, ResNet
from p10k_jax.models.resnetv2 import BIT_SHAPES, ResNetV2
from p10k_jax.models.vit import VIT_SHAPES, VisionTransformer, ViTShape


class Row(NamedTuple):
    """Names alike but for what stands in braces, `vit_base_patch{16,32}_{224,384}`, and their settings."""

    pattern: str
    settings: dict[str, Any]


def expand(pattern: str) -> list[str]:
    """`a{1,2}` -> `['a1', 'a2']`."""
    parts = re.split(r"\{(.*?)\}", pattern)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


# Sizes by timm's words for them. wee, little, medium, mediumd, betwixt, so150m are timm's own, for timm's own training.
SIZES = {
    "tiny": VIT_SHAPES["Ti"],
    "xsmall": ViTShape(256, 10, 4),
    "wee": ViTShape(256, 14, 4, 5.0),
    "little": ViTShape(320, 14, 5, 5.6),
    "small": VIT_SHAPES["S"],
    "medium": ViTShape(512, 12, 8),
    "mediumd": ViTShape(512, 20, 8),
    "betwixt": ViTShape(640, 12, 10),
    "base": VIT_SHAPES["B"],
    "so150m": ViTShape(896, 18, 14, 2.572),
    "so150m2": ViTShape(832, 21, 13, 34 / 13),
    "large": VIT_SHAPES["L"],
    "so400m": VIT_SHAPES["So400m"],
    "huge": VIT_SHAPES["H"],
    "giant": VIT_SHAPES["g"],
    "giantopt": ViTShape(1536, 40, 16),
    "gigantic": VIT_SHAPES["G"],
    "7b": ViTShape(4096, 40, 32, 2.0),
}
# What others call by the same words.
_PLUS = {"width": 896, "heads": 14}
_META_GIANT = {"width": 1536, "heads": 24, "mlp_ratio": 2 * 2.66667, "activation": "swiglu"}

_GAP = {"class_token": False, "pool": "avg", "fc_norm": False}  # global average pooling of normalised tokens
_GAP_REGISTERS = {"class_token": False, "pool": "avg", "embed_prefix": False, "layer_scale": 1e-5}
_MAP = {"class_token": False, "pool": "map"}
_CLIP = {"pre_norm": True, "norm_epsilon": 1e-5}
_QUICK_CLIP = _CLIP | {"activation": "quick_gelu"}
_TANH = {"activation": "gelu_tanh"}
_DINOV2 = {"layer_scale": 1e-5}
_DINOV2_REGISTERS = _DINOV2 | {"embed_prefix": False}
_TIPS = {"layer_scale": 1.0, "embed_prefix": False}
_DEIT3 = {"layer_scale": 1e-6, "embed_prefix": False}
_NO_BIAS = {"qkv_bias": False}

VITS = (
    Row("vit_{tiny,small,base,large}_patch16_{224,384}", {}),
    Row("vit_{small,base,large}_patch32_{224,384}", {}),
    Row("vit_{small,base}_patch8_224", {}),
    Row("vit_{large,huge,giant,gigantic}_patch14_224", {}),
    Row("vit_small_patch16_36x1_224", {"depth": 36, "layer_scale": 1e-5}),
    Row("vit_base_patch16_224_miil", _NO_BIAS),
    Row("vit_base_patch{16_plus_240,32_plus_256}", _PLUS | {"layer_scale": 1e-5}),
    Row("vit_intern300m_patch14_448", VIT_SHAPES["L"]._asdict() | {"layer_scale": 0.1, "final_norm": False}),
    # FlexiViT: Beyer et al., arXiv 2212.08013.
    Row("flexivit_{small,base,large}", {"patch_size": 16, "embed_prefix": False}),
    # DeiT: Touvron et al., arXiv 2012.12877; DeiT III: arXiv 2204.07118.
    Row("deit_{tiny,small,base}_patch16_224", {}),
    Row("deit_base_patch16_384", {}),
    Row("deit3_{small,medium,base,large}_patch16_224", _DEIT3),
    Row("deit3_{small,base,large}_patch16_384", _DEIT3),
    Row("deit3_huge_patch14_224", _DEIT3),
    # DINOv2: Oquab et al., arXiv 2304.07193; TIPSv2.
    Row("vit_{small,base,large}_patch14_dinov2", _DINOV2),
    Row("vit_giant_patch14_dinov2", _DINOV2 | _META_GIANT),
    Row("vit_{small,base,large}_patch14_reg4_dinov2", _DINOV2_REGISTERS),
    Row("vit_giant_patch14_reg4_dinov2", _DINOV2_REGISTERS | _META_GIANT),
    Row("vit_{base,large,so400m}_patch14_reg1_tipsv2", _TIPS),
    Row("vit_giant_patch14_reg1_tipsv2", _TIPS | _META_GIANT),
    # CLIP: Radford et al., arXiv 2103.00020, and its open relatives.
    Row("vit_{xsmall,medium,base}_patch16_clip_224", _CLIP),
    Row("vit_{medium,betwixt,base}_patch32_clip_224", _CLIP),
    Row("vit_base_patch32_clip_{256,384,448}", _CLIP),
    Row("vit_base_patch16_clip_384", _CLIP),
    Row("vit_base_patch16_plus_clip_240", _CLIP | _PLUS),
    Row("vit_{large,huge,giant,gigantic}_patch14_clip_224", _CLIP),
    Row("vit_{large,huge}_patch14_clip_336", _CLIP),
    Row("vit_{huge,gigantic}_patch14_clip_378", _CLIP),
    Row("vit_base_patch{16,32}_clip_quickgelu_224", _QUICK_CLIP),
    Row("vit_{large,huge,gigantic}_patch14_clip_quickgelu_224", _QUICK_CLIP),
    Row("vit_{large_patch14_clip_quickgelu_336,huge_patch14_clip_quickgelu_378}", _QUICK_CLIP),
    # SigLIP: Zhai et al., arXiv 2303.15343; SigLIP 2: Tschannen et al., arXiv 2502.14786. timm's have the exact GELU,
    # and those that came with SigLIP 2 its tanh approximation.
    Row("vit_base_patch16_siglip_{224,256,384,512}", _MAP),
    Row("vit_large_patch16_siglip_{256,384}", _MAP),
    Row("vit_so400m_patch14_siglip_{224,378,384}", _MAP),
    Row("vit_base_patch32_siglip_256", _MAP | _TANH),
    Row("vit_large_patch16_siglip_512", _MAP | _TANH),
    Row("vit_so400m_patch16_siglip_{256,384,512}", _MAP | _TANH),
    Row("vit_giantopt_patch16_siglip_{256,384}", _MAP | _TANH),
    Row("vit_base_patch16_siglip_gap_{224,256,384,512}", _GAP),
    Row("vit_large_patch16_siglip_gap_{256,384}", _GAP),
    Row("vit_so400m_patch14_siglip_gap_{224,378,384,448,896}", _GAP),
    Row("vit_base_patch32_siglip_gap_256", _GAP | _TANH),
    Row("vit_large_patch16_siglip_gap_512", _GAP | _TANH),
    Row("vit_so400m_patch16_siglip_gap_{256,384,512}", _GAP | _TANH),
    Row("vit_giantopt_patch16_siglip_gap_{256,384}", _GAP | _TANH),
    # Average pooling: EVA-L (Fang et al., arXiv 2211.07636), I-JEPA (Assran et al., arXiv 2301.08243), timm's own.
    Row("eva_large_patch14_{196,336}", {"pool": "avg"}),
    Row("vit_base_patch16_gap_224", _GAP | {"heads": 16}),
    Row("vit_huge_patch{14_gap_224,16_gap_448}", _GAP),
    Row("vit_giant_patch16_gap_224", _GAP),
    Row("vit_medium_patch16_gap_{240,256,384}", _GAP | _NO_BIAS | {"layer_scale": 1e-6}),
    Row("vit_betwixt_patch16_gap_256", _GAP | _NO_BIAS | {"layer_scale": 1e-6}),
    Row("vit_{wee,little,medium,betwixt}_patch16_reg1_gap_256", _GAP_REGISTERS),
    Row("vit_{little,medium,mediumd,betwixt}_patch16_reg4_gap_256", _GAP_REGISTERS),
    Row("vit_{mediumd,betwixt}_patch16_reg4_gap_384", _GAP_REGISTERS),
    Row("vit_base_patch16_reg4_gap_256", _GAP_REGISTERS | {"layer_scale": 0.0}),
    Row("vit_so150m_patch16_reg4_gap_{256,384}", _GAP),
    Row("vit_so150m_patch16_reg4_map_256", _MAP),
    Row("vit_so150m2_patch16_reg1_gap_{256,384,448}", _GAP_REGISTERS | _NO_BIAS | {"embed_prefix": True}),
)

_SPLIT_SWIGLU = {"activation": "split_swiglu"}
_EVA02 = {"mlp_ratio": 8 / 3, "activation": "swiglu", "rotary": "grid", "rotary_side": 16}
_EVA02_BASE = _EVA02 | _SPLIT_SWIGLU | {"mlp_norm": True, "split_qkv": True}
_EVA02_CLIP = _EVA02_BASE | {"attention_norm": True, "pool": "token"}
_DINOV3 = {
    "rotary": "unit",
    "rotary_temperature": 100.0,
    "rotary_halves": True,
    "positions": "none",
    "registers": 4,
    "layer_scale": 1e-5,
    "qkv_bias": False,
    "fc_norm": False,
    "norm_epsilon": 1e-5,
}
_DINOV3_BIAS = _DINOV3 | {"qkv_bias": True}
_DINOV3_PLUS = _DINOV3 | _SPLIT_SWIGLU | {"mlp_multiple": 8}
_PLUS_HUGE = {"heads": 20}
_ROPE = {
    "rotary": "grid",
    "rotary_temperature": 100.0,
    "rotary_columns_first": True,
    "positions": "none",
    "key_bias": True,
    "layer_scale": 1e-5,
    "pool": "token",
}
_ROPE_MIXED = _ROPE | {"rotary": "learned", "rotary_temperature": 10.0}
_APE = {"positions": "learned", "embed_prefix": False}
_ROPE_GAP = {"rotary": "grid", "rotary_side": 16, "positions": "none", "class_token": False, "layer_scale": 1e-5}
_PE = {
    "rotary": "grid",
    "rotary_columns_first": True,
    "rotary_offset": 1.0,
    "key_bias": True,
    "pre_norm": True,
    "norm_epsilon": 1e-5,
}
_PE_CORE = _PE | {"pool": "map", "pool_heads": 8, "pool_mlp_ratio": 4.0}
_PE_OTHER = _PE | {"final_norm": False, "rotary_side": 32}
_PE_SCALED = {"layer_scale": 0.1}
_PE_GIGANTIC = ViTShape(1536, 50, 16, 8960 / 1536)._asdict() | {
    "class_token": False,
    "rotary_side": 32,
    "rotary_offset": 0.0,
}

EVAS = (
    # EVA: Fang et al., arXiv 2211.07636 (its large one is a plain ViT); EVA-02: arXiv 2303.11331.
    Row("eva_giant_patch14_{224,336,560}", {}),
    Row("eva_giant_patch14_clip_224", {"pool": "token"}),
    Row("eva02_{tiny,small}_patch14_{224,336}", _EVA02),
    Row("eva02_{base,large}_patch14_{224,448}", _EVA02_BASE),
    Row("eva02_{base_patch16_clip_224,large_patch14_clip_224,large_patch14_clip_336}", _EVA02_CLIP),
    # DINOv3: Simeoni et al., arXiv 2508.10104; LingBot-Vision.
    Row("vit_{small,base,large}_patch16_dinov3", _DINOV3),
    Row("vit_{tiny,small,base,large}_patch16_dinov3_qkvb", _DINOV3_BIAS),
    Row("vit_small_plus_patch16_dinov3", _DINOV3_PLUS),
    Row("vit_small_plus_patch16_dinov3_qkvb", _DINOV3_PLUS | _DINOV3_BIAS),
    Row("vit_huge_plus_patch16_dinov3", _DINOV3_PLUS | _PLUS_HUGE),
    Row("vit_huge_plus_patch16_dinov3_qkvb", _DINOV3_PLUS | _DINOV3_BIAS | _PLUS_HUGE),
    Row("vit_7b_patch16_dinov3", _DINOV3_PLUS | {"mlp_multiple": 64}),
    Row("vit_{small,base,large}_patch16_lingbot", _DINOV3_BIAS | {"pool": "token"}),
    Row("vit_giant_patch16_lingbot", _DINOV3_PLUS | {"pool": "token"} | ViTShape(1536, 40, 24, 8 / 3)._asdict()),
    # RoPE-ViT: Heo et al., arXiv 2403.13298; timm's own.
    Row("vit_{small,base,large}_patch16_rope_224", _ROPE),
    Row("vit_{small,base,large}_patch16_rope_ape_224", _ROPE | _APE),
    Row("vit_{small,base,large}_patch16_rope_mixed_224", _ROPE_MIXED),
    Row("vit_{small,base,large}_patch16_rope_mixed_ape_224", _ROPE_MIXED | _APE),
    Row("vit_{medium,base}_patch16_rope_reg1_gap_256", _ROPE_GAP),
    Row("vit_mediumd_patch16_rope_reg1_gap_256", _ROPE_GAP | _NO_BIAS),
    Row("vit_betwixt_patch16_rope_reg4_gap_256", _ROPE_GAP),
    # Perception Encoder: Bolya et al., arXiv 2504.13181.
    Row("vit_pe_core_{tiny_patch16_384,small_patch16_384,large_patch14_336}", _PE_CORE | {"rotary_side": 24}),
    Row("vit_pe_core_base_patch16_224", _PE_CORE | {"rotary_side": 14}),
    Row("vit_pe_core_gigantic_patch14_448", _PE_CORE | _PE_GIGANTIC),
    Row("vit_pe_spatial_{tiny,small,base}_patch16_512", _PE_OTHER),
    Row("vit_pe_spatial_large_patch14_448", _PE_OTHER),
    Row("vit_pe_spatial_gigantic_patch14_448", _PE_OTHER | _PE_SCALED | _PE_GIGANTIC),
    Row("vit_pe_lang_large_patch14_448", _PE_OTHER | _PE_SCALED | {"depth": 23}),
    Row("vit_pe_lang_gigantic_patch14_448", _PE_OTHER | _PE_SCALED | _PE_GIGANTIC | {"depth": 47}),
)

_DEEP = {"stem": "deep"}
_DEEP_S = {"stem": "deep", "stem_width": 64}
_D = {"stem": "deep", "average_shortcut": True}
_T = {"stem": "tiered", "average_shortcut": True}
_AA = {"antialias": True}
_SE = {"squeeze": 1 / 16}

RESNETS = (
    Row("resnet{18,26,34,50,101,152,200}", {}),
    Row("resnet{50,101,152}c", _DEEP),
    Row("resnet{18,26,34,50,101,152,200}d", _D),
    Row("resnet{50,101,152}s", _DEEP_S),
    Row("resnet{10,14,26,50}t", _T),
    Row("resnetaa50", _AA),
    Row("resnetaa{34,50,101}d", _AA | _D),
    Row("resnetrs{50,101,152,200,270,350,420}", _D | {"stem_pool": "convolution", "squeeze": 1 / 4}),
    Row("seresnet{18,34,50,101,152}", _SE),
    Row("seresnet{152,200,269}d", _SE | _D),
    Row("seresnet50t", _SE | _T),
    Row("seresnetaa50d", _SE | _AA | _D),
    Row("resnext50_32x4d", {}),
    Row("resnext101_{32x4d,32x8d,32x16d,32x32d,64x4d}", {}),
    Row("resnext50d_32x4d", _D),
    Row("seresnext50_32x4d", _SE),
    Row("seresnext101_{32x4d,32x8d,64x4d}", _SE),
    Row("seresnext26d_32x4d", _SE | _D),
    Row("seresnext26t_32x4d", _SE | _T),
    Row("seresnext101d_32x8d", _SE | _D),
    Row("seresnextaa101d_32x8d", _SE | _AA | _D),
    Row("seresnextaa201d_32x8d", _SE | _AA | _D | _DEEP_S),
    Row("wide_resnet{50,101}_2", {"group_width": 128}),
)

BITS = (Row("resnetv2_{" + ",".join(BIT_SHAPES) + "}_bit", {}),)


def _of_tokens(name: str) -> dict[str, Any]:
    """The settings that a transformer's name tells, which a row may tell otherwise."""
    size = re.match(r"[a-z0-9]+_(?:pe_[a-z]+_)?([a-z0-9]+)", name)[1]
    settings = SIZES[size]._asdict() if size in SIZES else {}
    for setting, pattern in (("patch_size", r"_patch(\d+)"), ("registers", r"_reg(\d+)_")):
        if match := re.search(pattern, name):
            settings[setting] = int(match[1])
    return settings


def _of_resnet(name: str) -> dict[str, Any]:
    """As `_of_tokens`, of a ResNet."""
    shape = RESNET_SHAPES[re.search(r"\d+", name)[0]]._asdict()
    groups = re.search(r"_(\d+)x(\d+)d", name)
    return shape | ({"groups": int(groups[1]), "group_width": int(groups[2])} if groups else {})


def _of_bit(name: str) -> dict[str, Any]:
    """As `_of_tokens`, of a BiT."""
    return BIT_SHAPES[re.search(r"\d+x\d", name)[0]]._asdict()


FAMILIES: tuple[tuple[type[Classifier], tuple[Row, ...], Callable[[str], dict[str, Any]]], ...] = (
    (VisionTransformer, VITS, _of_tokens),
    (Eva, EVAS, _of_tokens),
    (ResNet, RESNETS, _of_resnet),
    (ResNetV2, BITS, _of_bit),
)


def _every_name() -> Iterator[tuple[str, tuple[type[Classifier], dict[str, Any]]]]:
    for module, rows, of_name in FAMILIES:
        for row in rows:
            for name in expand(row.pattern):
                yield name, (module, of_name(name) | row.settings)


# timm's name -> the module and those of its settings that are not its defaults.
TIMM_NAMES: dict[str, tuple[type[Classifier], dict[str, Any]]] = dict(_every_name())
