"""Writes `models.json`: timm's logits and loss gradients for the fixed weights of `recipe.py`.

In a scratch environment, for timm brings torch:

    pip install timm && python tests/goldens/make_models.py
"""

import json
from pathlib import Path

import numpy as np
import recipe
import timm
import torch


def golden(timm_name: str, kwargs: dict, image_size: int) -> dict:
    """Eval-mode logits, and for a train-mode step the loss and every parameter's gradient norm."""
    model = timm.create_model(timm_name, num_classes=recipe.NUM_CLASSES, **kwargs)
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
    goldens = {name: golden(g.timm, g.timm_options, g.image_size) for name, g in recipe.MODELS.items()}
    target = Path(__file__).with_name("models.json")
    target.write_text(json.dumps(goldens, indent=1) + "\n")
    print(f"{target}: {target.stat().st_size} bytes")
