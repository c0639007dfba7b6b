# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · Fine-tune public weights on your own catalogue
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/p10k-jax/p10k_jax/blob/main/colab/3_fine_tune_public_weights.ipynb)
#
# Public weights in, your folder of pictures in, and out comes a model that names products, for timm or for any program
# with JAX.
#
# As it stands this needs no download: without a `SOURCE` a small ViT is trained on one drawn catalogue for a minute and
# **stands in** for public weights, and the folder of pictures is drawn too. With `SOURCE` and `MODEL` set it is the
# real thing; take a GPU or TPU runtime.

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
SOURCE = ""  # @param {type:"string"}
MODEL = "vit_small_patch14_dinov2"  # @param {type:"string"}
FOLDER = ""  # @param {type:"string"}
EPOCHS = 8.0  # @param {type:"number"}
IMAGE_SIZE = 0  # @param {type:"integer"}
WORKDIR = "work/fine_tuned"  # @param {type:"string"}
# The real thing: SOURCE = "hf_hub:timm/vit_small_patch14_dinov2.lvd142m", EPOCHS = 10.0, IMAGE_SIZE = 224. (0 is that
# of the weights, and DINOv2's 518 pixels take long.) SOURCE may also be a .safetensors file, Google's .npz or the
# workdir of a finished run; docs/timm_parity.md lists the models. FOLDER is a tree class_name/*.jpg, for example on
# Drive; empty: one is drawn.

# %% [markdown]
# ## The pictures
#
# A folder a class, its name the class; nothing else is needed. A fifth of each becomes the test split.

# %%
from p10k_jax.reporting.progress import Console
from tfds_builder import raw
from tfds_builder.drawn_catalogue.plan import CatalogueParameters
from tfds_builder.drawn_catalogue.write import write_raw_catalogue

console = Console(sys.stdout)
folder, new = Path(FOLDER or "shop").expanduser(), Path("new_pictures")
if not FOLDER and not folder.exists():
    write_raw_catalogue(CatalogueParameters(12, 4, 720, 48, image_side=96, seed=2), "drawn")
    drawn = raw.open_catalogue("drawn")
    for row, label in enumerate(drawn.train.label):
        path = folder / drawn.class_names[label] / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn.read_row("train", row))
    new.mkdir(exist_ok=True)  # that no folder has: what the model will be asked about
    for row, name in enumerate(drawn.test.name):
        (new / name).write_bytes(drawn.read_row("test", row))
for path in sorted(folder.iterdir())[:5]:
    print(f"{path}/  {len(list(path.iterdir()))} pictures")

# %% [markdown]
# ## The weights
#
# Only without a `SOURCE`: a minute of training on another drawn catalogue. What the stand-in has learned is little, and
# what real weights bring is much more.

# %%
from configs import demo, finetune
from p10k_jax import setup
from p10k_jax.ablation.variants import apply
from p10k_jax.train import plan, train

if not SOURCE:
    stand_in = demo.get_config()
    apply(
        stand_in,
        {
            "data.config": "classes24-groups6-train1200-test24-side96-seed1-holdout0",
            "data.data_dir": "work/data",
            "data.image_size": 40,
            "model.options": {"width": 96, "depth": 4, "heads": 3},
            "batch_size": 16,
            "duration.epochs": 8.0,
            "eval.split": "",
        },
    )
    setup.prepare_data(stand_in, progress=False)
    train(plan(stand_in, Path("work/stand_in")), console)

# %% [markdown]
# ## Fine-tune
#
# AdamW, the rate falling by a quarter from each layer to the one below, colour jitter, label smoothing. Image size and
# channel statistics come with the weights; the classifier is made anew. What was loaded and what was not is said, and
# what does not fit is an error.

# %%
config = finetune.get_config(f"model={MODEL if SOURCE else stand_in.model.name}")
apply(
    config,
    {
        "model.weights": SOURCE or "work/stand_in",
        "data.name": "sku_catalogue",
        "data.config": "original-holdout3of16",
        "data.manual_dir": str(folder),
        "data.data_dir": "work/data",
        "data.image_size": IMAGE_SIZE or None,
        "duration.epochs": EPOCHS,
        "eval.every.percent": 25.0,
    },
)
if not SOURCE:
    apply(config, {"model.options": stand_in.model.options.to_dict(), "augment.crop_scale": (0.5, 1.0)})
    apply(config, {"batch_size": 16, "optimizer.learning_rate": 1e-3})  # weights that have seen more: 3e-4

workdir = Path(WORKDIR).expanduser()
setup.prepare_data(config, progress=False)
state = train(plan(config, workdir), console)

# %%
from p10k_jax import evaluate

figures = evaluate.evaluate(evaluate.plan(workdir, "test", "best"), console)

# %% [markdown]
# ## Ask it about new pictures
#
# `new_pictures` holds photos that were in no split; with a `FOLDER` of your own, put some there. A row a picture: the
# likeliest classes by name with their scores, and why a picture could not be read.

# %%
import io

import matplotlib.pyplot as plt
import pyarrow.parquet as pq
from PIL import Image

from p10k_jax import predict

new = new if new.exists() else next(path for path in folder.iterdir() if path.is_dir())
predict.predict(predict.plan([new], workdir=workdir, output=Path("work/new.parquet")), console)
rows = pq.read_table("work/new.parquet").to_pylist()

plt.rcParams["figure.dpi"] = 110
figure, places = plt.subplots(2, 4, figsize=(9, 5.4))
for place, row in zip(places.flat, rows, strict=False):
    place.imshow(Image.open(io.BytesIO((new / row["name"]).read_bytes())))
    said = [f"{score:.0%} {name}" for name, score in zip(row["top5_labels"], row["top5_scores"], strict=True)]
    place.set_title("\n".join(line[:30] for line in said[:3]), fontsize=7.5, loc="left")
for place in places.flat:
    place.axis("off")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Take it along
#
# To timm, with class names, preprocessing and a model card beside it. `--format=jax` on the command line, or
# `export_jax` here, writes a program that needs jax alone.

# %%
from p10k_jax.export import export_timm
from p10k_jax.finished import open_run

print(export_timm(open_run(workdir), Path("work/export")))
for path in sorted(Path("work/export").iterdir()):
    print(f"{path.name:<22}{path.stat().st_size / 1e3:>9,.1f} kB")

# %% [markdown]
# **Next:** [4 · Ablate and compare](4_ablate_and_compare.ipynb).
