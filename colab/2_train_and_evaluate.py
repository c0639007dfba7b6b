# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · Train and evaluate
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/p10k-jax/p10k_jax/blob/main/colab/2_train_and_evaluate.ipynb)
#
# A small ViT learns the drawn catalogue from scratch, the curves come while it trains, and the test split is counted
# exactly once. A run is a folder: restart the session in the middle, run the same cells, and it goes on from its last
# checkpoint.

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
SMALL = True  # @param {type:"boolean"}
EPOCHS = 12.0  # @param {type:"number"}
WORKDIR = "work/run"  # @param {type:"string"}
# SMALL = False and EPOCHS = 9.0 is the README's demo: 48 classes, test top-1 0.93 after 3 minutes on 2 CPU cores.
# To keep the run: from google.colab import drive; drive.mount("/content/drive"), and a WORKDIR below
# /content/drive/MyDrive.

# %% [markdown]
# ## The config
#
# A config is a function that returns a `ConfigDict`; `configs/common.py` has every setting with its default. On the
# command line settings are flags, `--config=configs/demo.py --config.duration.epochs=3`. In a notebook nobody parses
# flags: call the function, and change settings with `apply`, which refuses what the command line would.

# %%
from configs import demo
from p10k_jax.ablation.variants import apply

config = demo.get_config()
apply(config, {"duration.epochs": EPOCHS, "data.data_dir": "work/data", "log.every.steps": 10})
if SMALL:
    apply(
        config,
        {
            "data.config": "classes12-groups4-train1200-test240-side96-seed0-holdout4of16",
            "data.image_size": 40,
            "model.options": {"width": 96, "depth": 4, "heads": 3},
            "batch_size": 16,
        },
    )
# Your own catalogue:
# apply(config, {"data.name": "sku_catalogue", "data.config": "original", "data.manual_dir": RAW})

# %% [markdown]
# ## Train
#
# `plan` checks everything and compiles nothing; a mistake shows up here and not after an hour. `train` runs in a
# thread, so that the curves can be drawn from `metrics.jsonl` meanwhile.

# %%
from p10k_jax import setup
from p10k_jax.train import plan, train

workdir = Path(WORKDIR).expanduser()
setup.prepare_data(config, progress=False)  # once; True shows a bar
run = plan(config, workdir)

# %%
from concurrent.futures import ThreadPoolExecutor, wait

import matplotlib.pyplot as plt
from IPython.display import display

from p10k_jax.reporting.progress import Console
from p10k_jax.reporting.writers import read_metrics

plt.rcParams |= {"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False}


def curves(rows):
    """Training loss, and top-1 on training batches and validation."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 2.8))
    for panel, keys in zip(panels, (["train/loss"], ["train/accuracy", "validation/top1"]), strict=True):
        for key in keys:
            steps, values = ([row[name] for row in rows if key in row] for name in ("step", key))
            panel.plot(steps, values, label=key, marker="o" if "top1" in key else "")
        panel.set(xlabel="step", xlim=(0, run.total_steps))
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False)
    figure.tight_layout()
    plt.close(figure)
    return figure


shown = display(curves([]), display_id=True)
with ThreadPoolExecutor(1) as pool:
    training = pool.submit(train, run, Console(sys.stdout))
    while wait([training], timeout=3).not_done:
        shown.update(curves(read_metrics(workdir / "metrics.jsonl")))
shown.update(curves(read_metrics(workdir / "metrics.jsonl")))
state = training.result()

# %% [markdown]
# ## Evaluate
#
# The checkpoint with the best validation top-1, on the test split, which nothing has looked at before. Each figure has
# its 95 % interval: a difference smaller than that is no news (notebook 4).

# %%
from p10k_jax import evaluate

figures = evaluate.evaluate(evaluate.plan(workdir, "test", "best"), Console(sys.stdout))

# %% [markdown]
# ## The page
#
# `report.html` has all of this and the mistakes with their pictures. It is one file without anything outside of it:
# send it as it is.

# %%
from p10k_jax.reporting.inline import inline_page

inline_page(workdir / "report.html")

# %%
for path in sorted(workdir.iterdir()):
    print(path.name + "/" * path.is_dir())

# %% [markdown]
# **Next:** [3 · Fine-tune public weights](3_fine_tune_public_weights.ipynb) on your own catalogue.
