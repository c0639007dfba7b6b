# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · Ablate and compare
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/p10k-jax/p10k_jax/blob/main/colab/4_ablate_and_compare.ipynb)
#
# Change one thing, train every variant with several seeds, and see whether the difference is more than luck. Each run
# is a process of its own, so that a crash ends that run alone; the same cell again does what is left.

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
SEEDS = 2  # @param {type:"integer"}
EPOCHS = 8.0  # @param {type:"number"}
WORKDIR = "work/ablation"  # @param {type:"string"}
# Take three seeds or more where a decision hangs on it, and as many epochs as the real run has: what helps early is
# often not what helps in the end.

# %% [markdown]
# ## The variants
#
# A file with `variants()`, a name and what it changes each, the first the base; and `get_config`, which picks one.
# `configs/ablations/` has seven: heads, architectures, resolution, augmentation, sampling, optimizer, weights.

# %%
# %%writefile which_optimizer.py
from configs import demo
from p10k_jax.ablation.variants import apply, pick
from p10k_jax.config import parse_arg


def variants():
    return {"muon": {}, "adamw": {"optimizer.name": "adamw", "optimizer.momentum": 0.9}}


def get_config(arg=None):
    values = parse_arg(arg, variant="", epochs=8.0)
    config = demo.get_config()
    catalogue = "classes12-groups4-train720-test240-side96-seed0-holdout4of16"
    apply(config, {"data.config": catalogue, "data.image_size": 40, "batch_size": 16})
    apply(config, {"model.options": {"width": 96, "depth": 4, "heads": 3}, "eval.every.percent": 25.0})
    apply(config, {"duration.epochs": values["epochs"]})
    return pick(config, variants(), values["variant"])


# %% [markdown]
# ## Run them
#
# This process never opens a device, so that its children can have it: restart the session if another cell has used one.

# %%
from p10k_jax import ablate, setup
from p10k_jax.reporting.progress import Console

console, workdir = Console(sys.stdout, alone=True), Path(WORKDIR).expanduser()
ablation = ablate.plan("which_optimizer.py", f"epochs={EPOCHS}", [], workdir, seeds=SEEDS)
setup.prepare_data(ablation.configs["muon"], progress=False)
print(ablate.listing(ablation))

# %%
code = ablate.execute(ablation, console)
assert code == 0, f"a run failed; its log lies in {workdir / 'logs'}"

# %% [markdown]
# ## The table
#
# `difference` is from the base, in percentage points, with its 95 % interval over images **and** seeds;
# docs/ablations.md tells how it is computed. An interval that holds 0 says: not shown to differ. With two seeds it is
# wide, as it should be.

# %%
from IPython.display import Markdown

Markdown((workdir / "ablation.md").read_text().partition("## Command")[0].removeprefix("# Ablation"))

# %%
from p10k_jax.reporting.inline import inline_page

inline_page(workdir / "ablation.html")

# %% [markdown]
# ## Two finished runs
#
# `compare` takes any runs that were evaluated on the same images, here one seed of each variant. It asks less: whether
# these two **runs** differ (exact McNemar test), not whether other seeds would.

# %%
from p10k_jax.compare import as_text, comparisons, read_runs

print(as_text(comparisons(read_runs([workdir / "muon" / "seed0", workdir / "adamw" / "seed0"], "test"))))

# %% [markdown]
# **Next:** [5 · Read a run](5_read_a_run.ipynb).
