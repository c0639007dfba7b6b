"""Writes `models.json`: timm's logits and loss gradients for the fixed weights of `recipe.py`; and `positions.json`,
`rotary.json`: positions as timm computes them; and `shapes.json`: the parameters of all of timm's ViTs and ResNets.

In a scratch environment, for timm brings torch:

    pip install timm && python tests/goldens/make_models.py
"""

import functools
import json
from pathlib import Path

import numpy as np
import recipe
import timm
import torch


def golden(timm_name: str, kwargs: dict, image_size: int) -> dict:
    """Eval-mode logits, and for a train-mode step the loss and every parameter's gradient norm."""
    model = _model(timm_name, num_classes=recipe.NUM_CLASSES, **kwargs)
    weights = recipe.fixed_weights({name: tuple(t.shape) for name, t in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()}, strict=False)
    images = torch.from_numpy(recipe.fixed_images(image_size)).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = model.eval()(images)
    loss = torch.nn.functional.cross_entropy(model.train()(images), torch.arange(recipe.BATCH))
    loss.backward()
    statistics = {name: t for name, t in model.state_dict().items() if "running_" in name}
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
    print(f"{timm_name}: logits {logits.std():.3f} std, loss {loss:.4f}")
    return {
        "timm": f"{timm_name} {kwargs} (timm {timm.__version__}, torch {torch.__version__})",
        "logits": np.round(logits.numpy().astype(np.float64), 7).tolist(),
        "train_loss": float(loss),
        "running_statistics": {  # after that one step: mean and standard deviation over channels
            name: [float(f"{t.mean():.6g}"), float(f"{t.std(correction=0):.6g}")] for name, t in statistics.items()
        },
        "gradient_norms": {name: float(f"{norm:.6g}") for name, norm in norms.items()},
    }


def _model(timm_name: str, **kwargs) -> torch.nn.Module:
    if not timm_name.endswith("_bit"):
        return timm.create_model(timm_name, **kwargs)
    # timm's functions for BiT let nobody change the depth: what they call, with what they give.
    convolution = functools.partial(timm.layers.StdConv2d, eps=1e-8)
    return timm.models.resnetv2.ResNetV2(stem_type="fixed", conv_layer=convolution, **kwargs)


def rotary_tables() -> dict[str, list]:
    """timm's table for each entry of `recipe.ROTARY`: a row a patch, first all sines, then all cosines."""
    tables = {}
    for name, (options, grid) in recipe.ROTARY.items():
        rope = timm.layers.create_rope_embed(dim=recipe.ROTARY_CHANNELS, num_heads=1, **options)
        tables[name] = np.round(rope.get_embed(shape=list(grid)).numpy().astype(np.float64), 7).tolist()
    return tables


def shapes() -> dict:
    """For every model of timm's ViT and ResNet files: image size in pixels, blocks in each stage, and the digest of the
    names and shapes of all but the later blocks, with 10 classes; and the names of all other models."""
    modules = {"vision_transformer", "deit", "eva", "resnet", "resnetv2"}
    models, others = {}, []
    for name in timm.list_models():
        if timm.models.model_entrypoint(name).__module__.rpartition(".")[2] not in modules:
            others.append(name)
            continue
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=recipe.NUM_CLASSES)
        size = model.patch_embed.img_size if hasattr(model, "patch_embed") else model.pretrained_cfg["input_size"][1:]
        state = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        models[name] = [size[0], recipe.depths(state), recipe.digest(recipe.first_blocks(state))]
    return {"timm": timm.__version__, "models": models, "others": others}


def resized_positions() -> dict[str, list]:
    """timm's resampling of position tables: 'patches a side, patches a side wanted, prefix tokens' -> values."""
    resized = {}
    for old, new, prefix in recipe.GRIDS:
        table = torch.from_numpy(recipe.fixed_positions(old, prefix))
        values = timm.layers.resample_abs_pos_embed(table, [new, new], num_prefix_tokens=prefix)
        resized[f"{old},{new},{prefix}"] = np.round(values.numpy().astype(np.float64), 7).tolist()
    return resized


if __name__ == "__main__":
    positions = Path(__file__).with_name("positions.json")
    positions.write_text(json.dumps(resized_positions()) + "\n")
    Path(__file__).with_name("rotary.json").write_text(json.dumps(rotary_tables()) + "\n")
    Path(__file__).with_name("shapes.json").write_text(json.dumps(shapes()) + "\n")
    goldens = {name: golden(g.timm, g.timm_options, g.image_size) for name, g in recipe.MODELS.items()}
    target = Path(__file__).with_name("models.json")
    target.write_text(json.dumps(goldens, indent=1) + "\n")
    print(f"{target}: {target.stat().st_size} bytes")
