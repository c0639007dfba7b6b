# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · Read a run: mistakes, embeddings, retrieval
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/p10k-jax/p10k_jax/blob/main/colab/5_read_a_run.ipynb)
#
# A top-1 says how often a model errs; this notebook shows where and why. It reads any finished run; without one it
# trains a small one first.

# %%
# @title Install; versions and devices
import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

REPOSITORY = "https://github.com/p10k-jax/p10k_jax"
has_tpu = "TPU_ACCELERATOR_TYPE" in os.environ or Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
accelerator = "tpu" if has_tpu else "cuda" if shutil.which("nvidia-smi") else ""
if importlib.util.find_spec("p10k_jax") is None:
    extras = ",".join(filter(None, ["hub", accelerator]))
    package = f"p10k_jax[{extras}] @ git+{REPOSITORY}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package], check=True)

versions = (f"{name} {version(name)}" for name in ("p10k_jax", "jax", "flax", "optax"))
print("Python", sys.version.split()[0], "·", " · ".join(versions))
# Asked in a process of its own, which gives the devices back.
ask = "import jax; print(jax.device_count(), 'x', jax.devices()[0].device_kind)"
devices = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
print("Devices:", devices)
if accelerator and devices.endswith("cpu"):
    print(f"NOTE: JAX does not see this runtime's {accelerator} device. Restart the session and run this cell again.")

# %%
# @title Settings
WORKDIR = ""  # @param {type:"string"}
SPLIT = "test"  # @param ["test", "validation"]
EPOCHS = 9.0  # @param {type:"number"}
# WORKDIR is a finished run, for example that of notebook 2 on Drive; empty: one is trained for EPOCHS on a drawn
# catalogue.

# %%
from configs import demo
from p10k_jax import setup
from p10k_jax.ablation.variants import apply
from p10k_jax.reporting.progress import Console
from p10k_jax.train import plan, train

console, workdir = Console(sys.stdout), Path(WORKDIR or "work/run").expanduser()
if not WORKDIR:
    config = demo.get_config()
    catalogue = "classes12-groups4-train1200-test240-side96-seed0-holdout4of16"
    apply(config, {"data.config": catalogue, "data.data_dir": "work/data", "data.image_size": 40, "batch_size": 16})
    apply(config, {"model.options": {"width": 96, "depth": 4, "heads": 3}, "duration.epochs": EPOCHS})
    setup.prepare_data(config, progress=False)
    train(plan(config, workdir), console)

# %% [markdown]
# ## Evaluate, with embeddings and neighbours
#
# Beside the head's predictions: the embedding of every picture, and what its nearest neighbours among the training
# pictures say. k and the weight of the fusion are chosen on validation, never on the split that is reported
# (docs/evaluation.md).

# %%
from p10k_jax import evaluate

evaluation = evaluate.plan(workdir, SPLIT, "best", embeddings=True, neighbours=True)
figures = evaluate.evaluate(evaluation, console)

# %% [markdown]
# ## The surest mistakes
#
# Left the picture, then two training pictures of what it is, and two of what the model took it for. Look for three
# things: a wrong label, two classes that nobody could tell apart, and a cue that the model missed.

# %%
import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from p10k_jax.config import read_workdir
from p10k_jax.data.classes import read_classes
from p10k_jax.data.splits import open_split, split_labels
from p10k_jax.evaluation.predictions import read_predictions
from p10k_jax.reporting.gallery import choose

plt.rcParams |= {"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False}
table, classes = read_predictions(evaluation.folder / "predictions.parquet"), read_classes(workdir)
config = read_workdir(workdir)
builder = setup.open_data(config)
train_split, split = open_split(builder, config.data.train_split), open_split(builder, SPLIT)
train_labels = split_labels(builder, train_split)
places = {one.read(row).name: (one, row) for one in (train_split, split) for row in range(len(one))}
GREY, GREEN, RED = "#555555", "#1a9850", "#d73027"


def tile(axes, source, row, title, colour):
    """A picture of a split with a title and a frame."""
    axes.imshow(Image.open(io.BytesIO(source.read(row).image)).convert("RGB").resize((96, 96)))
    axes.set_title(title, fontsize=7, loc="left")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=colour, linewidth=2.5)


mistakes = table.take(choose(table, figures["confusions"]).mistakes[:6]).to_pylist()
figure, panels = plt.subplots(max(1, len(mistakes)), 5, figsize=(8, 1.75 * max(1, len(mistakes))), squeeze=False)
for row, mistake in zip(panels, mistakes, strict=False):
    tile(row[0], *places[mistake["name"]], "the picture", GREY)
    sure = f", {mistake['top5_scores'][0]:.0%}"
    taken_for = mistake["top5_labels"][0]
    for first, label, colour, said in ((1, mistake["label"], GREEN, "is "), (3, taken_for, RED, "taken for ")):
        for place, example in enumerate(np.flatnonzero(train_labels == label)[:2]):
            title = "" if place else said + classes.names[label] + (sure if first == 3 else "")
            tile(row[first + place], train_split, example, title, colour)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## What is taken for what
#
# Ordered pairs: the most frequent first. Pairs that appear in both directions are candidates for a merged class, a
# larger image size, or more pictures.

# %%
for pair in figures["confusions"][:8]:
    print(f"{pair['count']:>3} of {pair['of']:<3} {pair['label_name']:<44} taken for {pair['predicted_name']}")

# %% [markdown]
# ## Nearest neighbours
#
# The five nearest training pictures by cosine similarity of embeddings; green where the class is right. Neighbours of
# one background and many classes mean that the model looks at the background.

# %%
import pyarrow.parquet as pq

neighbours = {row["name"]: row for row in pq.read_table(evaluation.folder / "neighbours.parquet").to_pylist()}
picked = [mistake["name"] for mistake in mistakes[:3]] + table["name"].to_pylist()[:2]
labels = dict(zip(table["name"].to_pylist(), table["label"].to_pylist(), strict=True))
figure, panels = plt.subplots(len(picked), 6, figsize=(8, 1.45 * len(picked)))
for row, name in zip(panels, picked, strict=True):
    tile(row[0], *places[name], classes.names[labels[name]][:20], GREY)
    found = zip(*(neighbours[name][key] for key in ("neighbours", "neighbour_labels", "similarities")), strict=True)
    for axes, (other, label, similarity) in zip(row[1:], found, strict=False):
        tile(axes, *places[other], f"{similarity:.2f}", GREEN if label == labels[name] else RED)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Retrieval
#
# recall@k: at least one of the k nearest is of the query's class. mAP@k also asks how high they stand. `gallery` is the
# training pictures; `itself` the split without the query, which needs no training pictures of a class at all.

# %%
import json

from p10k_jax.neighbour_evaluation import neighbours_summary

print(neighbours_summary(json.loads((evaluation.folder / "neighbours.json").read_text())))

# %% [markdown]
# ## A map of the embeddings
#
# The first two principal components of the unit embeddings: a shadow of many dimensions, good for seeing which groups
# lie apart, not for judging how far.

# %%
from p10k_jax.evaluation.files import read_embeddings
from p10k_jax.evaluation.neighbours import unit_rows

_, vectors = read_embeddings(evaluation.folder / "embeddings.parquet")
centred = unit_rows(vectors) - unit_rows(vectors).mean(axis=0)
_, values, directions = np.linalg.svd(centred, full_matrices=False)
points, shares = centred @ directions[:2].T, values**2 / (values**2).sum()
groups = table["group"].to_numpy()
_, axes = plt.subplots(figsize=(7, 4.6))
for number, group in enumerate(np.unique(groups)[:10]):
    here = groups == group
    name = classes.group_names[int(np.flatnonzero(classes.groups == group)[0])] or f"group {group}"
    axes.scatter(*points[here].T, s=14, alpha=0.8, linewidths=0, color=f"C{number}", label=name)
axes.set(xlabel=f"first component, {shares[0]:.0%} of the variance", ylabel=f"second, {shares[1]:.0%}")
axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# ## Is it as sure as it should be?
#
# Of the pictures with a score of 0.8, four in five should be right. Below the line the model is surer than it is right;
# label smoothing and mixup lift it above.

# %%
bins = [row for row in figures["calibration"] if row["count"]]
_, axes = plt.subplots(figsize=(4.2, 4))
axes.plot([0, 1], [0, 1], color="#999", linewidth=1, linestyle=":")
most = max(row["count"] for row in bins)
axes.scatter(
    [row["confidence"] for row in bins],
    [row["accuracy"] for row in bins],
    s=[20 + 180 * row["count"] / most for row in bins],
    color="#2a78d6",
    alpha=0.8,
)
axes.set(xlabel="score of the first prediction", ylabel="fraction that is right", xlim=(0, 1), ylim=(0, 1.02))
axes.set_title(f"expected calibration error {figures['ece']:.3f}", loc="left", fontsize=10)
plt.show()

# %% [markdown]
# Back to [1 · Look at the data](1_look_at_the_data.ipynb).
