"""What public weights expect of their images: channel statistics and resolution."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CLIP: Statistics = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_SATELLITE: Statistics = ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143))
_UNIT: Statistics = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

# Patterns over timm's `architecture.tag`; the first that is found decides.
_STATISTICS: tuple[tuple[str, Statistics], ...] = (
    (r"\.sat493m", _SATELLITE),
    (r"_miil|_mci_|_tipsv2", _UNIT),
    (r"^vit_large_patch14_clip_\d+(\.laion2b|$)", HALF),
    (r"_clip|^eva02_|^vit_.*(\.bamboo|_radio)|^vit_betwixt_patch16_rope_reg4", _CLIP),
    (r"_rope_reg\d+_gap", HALF),
    (r"^vit_.*(_dinov|\.dino|\.mae|_lingbot|_rope|_ijepa)", IMAGENET),
    (r"^vit_(giant_patch16|huge_patch1\d)_gap_|^vit_small_patch8_224$|^vit_intern300m", IMAGENET),
    (r"^vit_|^resnetv2_.*_bit|\.ra4_|^resnetv2_(18|34|50$|50\.|101)|^resnetv2_50d_(gn|evos)", HALF),
    (r"^flexivit_", HALF),
    (r"^eva_giant_patch14_560", IMAGENET),
    (r"^eva_", _CLIP),
    (r"^vit-|^deit|^(wide_|se)?resne[xt]", IMAGENET),
)
_SIZES: tuple[tuple[str, int], ...] = (
    (r"_dinov2", 518),
    (r"^flexivit_", 240),
    (r"_dinov3", 256),
    (r"_tipsv2", 448),
    (r"_lingbot|_radio", 512),
    (r"^resnetv2_(50x1|152x2)_bit$|^resnetv2_152x2_bit\.goog_teacher_in21k_ft_in1k$", 224),
    (r"^resnetv2_152x4_bit(\.goog_in21k_ft_in1k)?$", 480),
    (r"^resnetv2_\d+x\d_bit(\.goog_in21k_ft_in1k)?$", 448),
    (r"^resnet50x4_", 288),
    (r"^resnet50x16_", 384),
    (r"^resnet50x64_", 448),
    (r"^(wide_)?resne[xt].*\.a3_", 160),
    (r"^(wide_)?resne[xt].*\.tv2_|^resnet1[04]t|^resnet50\.a1h_", 176),
    (r"^resnet(26t|32ts|33ts|51q|61q|200d)|^resnet(101|152)d(\.ra2_|$)|^resnext26ts", 256),
)
# `_224` at the end of the architecture; a resolution in the tag, as `.ra4_e3600_r384_in1k`, says more.
_PIXELS_IN_TAG = re.compile(r"\..*(_r|_ft_in1k_)(?P<pixels>[2-9][0-9]{2})(_|$)")
_PIXELS_IN_NAME = re.compile(r"^(vit|deit|eva)\w*?_(?P<pixels>[0-9]{3})(_miil)?(\.|$)")


class Preprocessing(NamedTuple):
    """How images are prepared for a model.

    Attributes:
        mean: Of red, green and blue, where black is 0 and white 1; subtracted.
        std: Divides what remains.
        image_size: Side of the square image in pixels.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:.9g}" for value in values) for values in self[:2])
        return f"mean ({mean}), std ({std}), {self.image_size} pixels"


def preprocessing_of(name: str) -> Preprocessing:
    """What timm's weights of that name were trained with, by rules over the name alone.

    Args:
        name: Ours (`vit-B/16`, `resnet-50`: ImageNet's statistics, 224 pixels) or timm's, with or without a tag. The
            tag matters: `resnet50.tv2_in1k` was trained at 176 pixels, `vit_base_patch16_224.mae` with ImageNet's
            statistics. Without one, or with a tag that no rule knows, it is that of the architecture's first tag in
            timm. A file's own `config.json` knows better.

    Raises:
        ValueError: a name of no family that is known here.
    """
    name = re.sub(r"^bit-(\w+)$", r"resnetv2_\1_bit", name)
    statistics = next((values for pattern, values in _STATISTICS if re.search(pattern, name)), None)
    if statistics is None:
        raise ValueError(
            f"No preprocessing is known for {name!r}; known: vit*, deit*, eva02_*, resnet*, resnext*. Set data.mean, "
            "data.std and data.image_size."
        )
    for pattern in (_PIXELS_IN_TAG, _PIXELS_IN_NAME):
        if match := pattern.search(name):
            return Preprocessing(*statistics, int(match["pixels"]))
    return Preprocessing(*statistics, next((size for pattern, size in _SIZES if re.search(pattern, name)), 224))


def preprocessing_of_config(config: Mapping[str, Any], where: str) -> Preprocessing | None:
    """The preprocessing in timm's `config.json` (`pretrained_cfg`); None where it has none.

    Raises:
        ValueError: values that are no preprocessing.
    """
    settings = config.get("pretrained_cfg", config)  # timm's oldest files have one level
    if not isinstance(settings, Mapping) or not {"mean", "std", "input_size"} <= settings.keys():
        return None
    mean, std, size = (settings[key] for key in ("mean", "std", "input_size"))
    if not (_three_numbers(mean) and _three_numbers(std) and min(std) > 0):
        raise ValueError(f"{where}: mean={mean!r}, std={std!r}; three numbers each are needed, and std above 0.")
    if not (isinstance(size, list) and len(size) == 3 and all(isinstance(n, int) and n > 0 for n in size)):
        raise ValueError(f"{where}: input_size={size!r}; [3, height, width] is needed.")
    if size[0] != 3 or size[1] != size[2]:
        raise ValueError(f"{where}: input_size={size!r}; models here take three channels and square images.")
    return Preprocessing(tuple(map(float, mean)), tuple(map(float, std)), size[1])


def _three_numbers(values: Any) -> bool:
    numbers = isinstance(values, list) and len(values) == 3 and all(type(value) in (int, float) for value in values)
    return numbers and all(math.isfinite(value) for value in values)
