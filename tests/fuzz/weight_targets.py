"""Targets of weight files."""

from pathlib import Path

import numpy as np

from p10k_jax.weights.files import read_preprocessing, read_weights
from p10k_jax.weights.fit import count_classes, fit_tensors
from tests.fuzz import folders
from tests.fuzz.check import Target

# A model of one dense layer, one convolution and a classifier: every branch of the fit, and no compilation.
TEMPLATE = {
    "params": {
        "patch_embed": {"proj": {"kernel": np.zeros((2, 2, 3, 4), np.float32), "bias": np.zeros(4, np.float32)}},
        "pos_embed": np.zeros((1, 5, 4), np.float32),
        "norm": {"scale": np.zeros(4, np.float32), "bias": np.zeros(4, np.float32)},
        "head": {"kernel": np.zeros((4, 3), np.float32), "bias": np.zeros(3, np.float32)},
    },
    "batch_stats": {},
}


def _fit(source: str) -> None:
    read_preprocessing(source)
    found = read_weights(source)
    assert all(tensor.dtype == np.float32 for tensor in found.tensors.values())
    count_classes(found.tensors)
    fit = fit_tensors(
        found.tensors, TEMPLATE, prefix_tokens=1, new=("^norm",), left_over=("^(extra|cls_token|reg_token|blocks)",)
    )
    assert str(fit)


def _safetensors(data: bytes, folder: Path) -> None:
    """A folder with `model.safetensors` and `config.json`, or one file."""
    files = folders.unpack(data)
    if "data" in files:
        (folder / "x.safetensors").write_bytes(data)
        _fit(str(folder / "x.safetensors"))
        return
    folders.write(files, folder)
    _fit(str(folder))


def _npz(data: bytes, folder: Path) -> None:
    """An archive of arrays in one of Google's layouts."""
    (folder / "x.npz").write_bytes(data)
    _fit(str(folder / "x.npz"))


TARGETS = {"safetensors": Target(_safetensors, (ValueError,)), "npz": Target(_npz, (ValueError,), most_bytes=1 << 15)}
