# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · Look at the data
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/p10k-jax/p10k_jax/blob/main/colab/1_look_at_the_data.ipynb)
#
# Before anything is trained: how many classes there are, how many pictures each has, what they look like, and what
# augmentation makes of them. The catalogue here is drawn by a program, look-alike products in the layout of
# Products-10K; your own folder goes in by one setting.

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
RAW = ""  # @param {type:"string"}
CLASSES = 24  # @param {type:"integer"}
PICTURES = 900  # @param {type:"integer"}
SEED = 0  # @param {type:"integer"}
# RAW is your own catalogue (below); empty: one is drawn, of so many classes and training pictures. The README's demo
# has 48 classes and 3,600 pictures.

# %% [markdown]
# ## The raw files
#
# Two layouts are read, zipped or not:
#
# - **Tables**, as Products-10K is published: `train.csv` with `name,class,group`; `test_kaggletest.csv` or `test.csv`
#   with `name,class[,Usage]`; the pictures in `train.zip` and `test.zip`, or in folders `train/` and `test/`.
# - **A tree**: `class_name/*.jpg`, or `train/class_name/*.jpg` and `test/class_name/*.jpg`.
#
# On Colab, put them on Drive (`from google.colab import drive; drive.mount("/content/drive")`) and give their folder,
# such as `/content/drive/MyDrive/shop`, as `RAW`. Products-10K may not be redistributed: you fetch it yourself.

# %%
from tfds_builder import raw
from tfds_builder.drawn_catalogue.plan import CatalogueParameters
from tfds_builder.drawn_catalogue.write import write_raw_catalogue

folder = Path(RAW or "drawn").expanduser()
if not RAW and not folder.exists():
    parameters = CatalogueParameters(CLASSES, max(1, CLASSES // 4), PICTURES, 10 * CLASSES, image_side=128, seed=SEED)
    write_raw_catalogue(parameters, folder)

for path in sorted(folder.iterdir())[:12]:
    print(f"{path.name:<22}{path.stat().st_size / 1e3:>9,.0f} kB")
    if path.suffix == ".csv":
        print("    " + "\n    ".join(path.read_text().splitlines()[:3]))
catalogue = raw.open_catalogue(folder)

# %% [markdown]
# ## Look-alikes
#
# A row a class, classes of one group together. Where you cannot tell two rows apart, do not trust the labels blindly.

# %%
from tfds_builder.contact_sheet import catalogue_rows, draw_sheet

draw_sheet(catalogue_rows(catalogue, number=8, columns=7), f"{catalogue.num_classes:,} classes", thumbnail=96)

# %% [markdown]
# ## Prepared
#
# Every picture is decoded once and checked, a hold-out for validation is drawn, and the records are written as
# ArrayRecord, once: the next call finds them. Odd pictures are counted and named. `products10k` in place of
# `sku_catalogue` also asserts the official counts.

# %%
from tfds_builder import summary
from tfds_builder.prepare import prepare

builder = prepare("sku_catalogue", config="original", manual_dir=folder, data_dir="work/data", progress=False)
print(summary.render(builder.info.metadata, title=builder.info.full_name, path=builder.data_dir))

# %% [markdown]
# ## How often a class comes
#
# A long tail is normal for a catalogue. With few pictures in the tail, look at balanced sampling and logit adjustment
# (`sampling.name`, `loss.logit_adjustment`; docs/fine_tuning.md).

# %%
import matplotlib.pyplot as plt
import numpy as np

from p10k_jax.data.classes import classes_of
from p10k_jax.data.splits import open_split

plt.rcParams |= {"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False}
train = open_split(builder, "train")
classes = classes_of(builder, train)
counts = np.sort(classes.train_images)[::-1]
_, axes = plt.subplots(figsize=(8, 2.8))
axes.bar(range(len(counts)), counts, width=0.9 if len(counts) < 200 else 1, color="#2a78d6")
median = np.median(counts)
axes.axhline(median, color="#555", linewidth=1, linestyle=":")
axes.annotate(f"median {median:g}", (len(counts), median), va="bottom", ha="right", color="#555")
axes.set(xlabel="classes, the most frequent first", ylabel="training pictures", xlim=(-0.5, len(counts)))
rarest = classes.names[classes.train_images.argmin()]
axes.set_title(f"{counts[0]:,} to {counts[-1]:,} pictures a class; the rarest is {rarest}", loc="left", fontsize=10)
plt.show()

# %% [markdown]
# ## One batch
#
# The host decodes pictures onto square canvases; the rest happens on the device. Squares squash: the aspect ratio
# travels with each picture, so that crops come out undistorted.

# %%
from p10k_jax.data.batches import Loading, host_batches
from p10k_jax.data.order import TrainingOrder
from p10k_jax.reporting.training_views import grid

IMAGE_SIZE, CANVAS = 96, 112
batch = next(
    host_batches(
        train,
        rows=np.arange(16),
        batch_size=16,
        canvas_size=CANVAS,
        steps=range(1),
        loading=Loading(threads=2),
        order=TrainingOrder(SEED, len(train)),
    )
)
for key in ("image", "aspect", "label", "group"):
    print(f"{key:<8}{batch[key].dtype!s:<9}{batch[key].shape}")
plt.figure(figsize=(5, 5))
plt.imshow(grid(batch["image"]))
plt.axis("off")
plt.show()

# %% [markdown]
# ## What augmentation makes of it
#
# One picture, drawn eight times with each setting; a draw depends on the picture's key alone. Ask of every row: is it
# still the same product? What tells look-alikes apart, a colour or a word on the label, must survive.

# %%
import jax

from p10k_jax.data.augment import Normalisation, denormalise, training_views
from p10k_jax.data.erasing import Erasing
from p10k_jax.data.policies import AugMix, RandAugment

SETTINGS = {
    "crop, flip": {},
    "+ jitter": {"jitter": (0.4, 0.4, 0.4)},
    "+ RandAugment": {"randaugment": RandAugment(num_ops=2)},
    "+ AugMix": {"augmix": AugMix(width=3)},
    "+ erasing": {"erasing": Erasing(probability=1.0)},
}
PICTURE, DRAWS, statistics = 4, 8, Normalisation()
keys = jax.random.split(jax.random.key(SEED), DRAWS)
canvases, aspects = (np.repeat(batch[key][PICTURE : PICTURE + 1], DRAWS, axis=0) for key in ("image", "aspect"))
figure, rows = plt.subplots(len(SETTINGS), 1, figsize=(8, 1.06 * len(SETTINGS)))
for row, (name, settings) in zip(rows, SETTINGS.items(), strict=True):
    views = training_views(
        image_size=IMAGE_SIZE, scale=(0.25, 1.0), ratio=(3 / 4, 4 / 3), flip=0.5, statistics=statistics, **settings
    )
    row.imshow(np.hstack(denormalise(jax.jit(views)(keys, canvases, aspects), statistics)))
    row.set_ylabel(name, rotation=0, ha="right", va="center")
    row.set(xticks=[], yticks=[])
    row.spines[:].set_visible(False)
figure.tight_layout(pad=0.3)
plt.show()

# %% [markdown]
# **Next:** [2 · Train and evaluate](2_train_and_evaluate.ipynb).
