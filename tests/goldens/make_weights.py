"""Writes `weights.json` and `preprocessing.json`: what timm and torchvision make of other codebases' checkpoints.

`weights.json` has, for each archive of `weight_recipe.py`, the state dict that timm's own loaders fill, as shapes and
hashes, and the logits of two; and the logits of torchvision's ViT. `preprocessing.json` has the statistics and sizes of
timm's pretrained names. In a scratch environment, for timm brings torch:

    pip install timm && python tests/goldens/make_weights.py
"""

import json
import re
import tempfile
from pathlib import Path

import numpy as np
import recipe
import timm
import torch
import torchvision
import weight_recipe
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

FOLDER = Path(__file__).parent
FAMILIES = r"(vit_|deit|eva02_|resnet\d|resnetv2_|resnext|wide_resnet)"


def small_vit(**options) -> VisionTransformer:
    r = weight_recipe
    shape = {"embed_dim": r.WIDTH, "depth": r.DEPTH, "num_heads": r.HEADS, "mlp_ratio": r.HIDDEN / r.WIDTH}
    return VisionTransformer(img_size=r.GRID * r.PATCH, patch_size=r.PATCH, **shape, **options)


def model_for(archive: str) -> torch.nn.Module:
    """timm's model that the archive is for."""
    if archive == "bit":
        shape = {"layers": weight_recipe.BIT_LAYERS, "channels": weight_recipe.BIT_CHANNELS}
        return ResNetV2(**shape, num_classes=weight_recipe.CLASSES, stem_chs=weight_recipe.BIT_STEM)
    if archive.startswith("siglip"):
        return small_vit(num_classes=0, class_token=False, global_pool="map")
    return small_vit(num_classes=weight_recipe.CLASSES)


def hashed(state: dict[str, torch.Tensor]) -> dict[str, str]:
    """Shape and hash of every tensor."""
    return {name: weight_recipe.hashed(tensor.detach().numpy()) for name, tensor in state.items()}


def archives() -> tuple[dict[str, dict[str, str]], dict[str, list]]:
    """The state dict of each archive, and the logits of two (embeddings of SigLIP's)."""
    states, logits = {}, {}
    for name, arrays in weight_recipe.ARCHIVES.items():
        model = model_for(name)
        with tempfile.TemporaryDirectory() as folder:
            np.savez(f"{folder}/weights.npz", **arrays)
            model.load_pretrained(f"{folder}/weights.npz")
        states[name], logits[name] = hashed(model.state_dict()), forward(model)
    return states, {name: logits[name] for name in ("vit", "siglip")}


def forward(model: torch.nn.Module) -> list:
    images = torch.from_numpy(recipe.fixed_images(weight_recipe.GRID * weight_recipe.PATCH)).permute(0, 3, 1, 2)
    with torch.no_grad():
        return np.round(model.eval()(images).numpy().astype(np.float64), 7).tolist()


def dinov2() -> dict[str, str]:
    """DINOv2's names through timm's filter; the model serves for its patch size only."""
    arrays = {name: torch.from_numpy(array) for name, array in weight_recipe.dinov2().items()}
    model = small_vit(reg_tokens=4, no_embed_class=True)
    return hashed(checkpoint_filter_fn(arrays, model))


def torchvision_logits() -> list:
    r = weight_recipe
    model = torchvision.models.VisionTransformer(
        image_size=r.GRID * r.PATCH,
        patch_size=r.PATCH,
        num_layers=r.DEPTH,
        num_heads=r.HEADS,
        hidden_dim=r.WIDTH,
        mlp_dim=r.HIDDEN,
        num_classes=r.CLASSES,
    )
    weights = recipe.fixed_weights(weight_recipe.torchvision_vit())
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return forward(model)


def preprocessing() -> dict[str, str]:
    """'mean / std / pixels' -> names, of timm's pretrained models that take square images."""
    tagged = [name for name in timm.list_models(pretrained=True) if re.match(FAMILIES, name)]
    grouped: dict[str, list[str]] = {}
    for name in sorted({*tagged, *(name.split(".")[0] for name in tagged)}):
        settings = timm.get_pretrained_cfg(name)
        if settings.input_size[1] == settings.input_size[2]:
            key = f"{json.dumps(settings.mean)} / {json.dumps(settings.std)} / {settings.input_size[1]}"
            grouped.setdefault(key, []).append(name)
    return {key: " ".join(names) for key, names in grouped.items()}


if __name__ == "__main__":
    states, logits = archives()
    goldens = {
        "made_by": f"timm {timm.__version__}, torch {torch.__version__}, torchvision {torchvision.__version__}",
        "archives": states,
        "logits": logits,
        "dinov2": dinov2(),
        "torchvision_logits": torchvision_logits(),
    }
    (FOLDER / "weights.json").write_text(json.dumps(goldens, indent=1) + "\n")
    names = preprocessing()
    (FOLDER / "preprocessing.json").write_text(json.dumps(names, indent=1) + "\n")
    print(f"{len(goldens['archives'])} archives, {sum(len(n.split()) for n in names.values())} names")
