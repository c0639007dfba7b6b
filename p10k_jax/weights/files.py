"""Public weights by name: a file, a folder or a repository on the Hugging Face hub, read into timm's names.

Nothing is unpickled: `.safetensors` and `.npz` are read, all else is refused with the way out.
"""

import contextlib
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from p10k_jax.files import read_json
from p10k_jax.weights.foreign_names import in_timm_names, is_torchvision_vit
from p10k_jax.weights.hub import CONFIG, PREFIXES, WEIGHTS, fetch_from_hub
from p10k_jax.weights.npz_weights import npz_preprocessing, read_npz_weights
from p10k_jax.weights.preprocessing import IMAGENET, Preprocessing, preprocessing_of_config

_KINDS = re.compile(r"B?F16|F32|F64|[IU](8|16|32|64)|BOOL")  # counters and indices are left over, not weights


class WeightFile(NamedTuple):
    """What a source of weights holds.

    Attributes:
        tensors: timm's names, torch's layouts, float32; some are views that share memory.
        preprocessing: What the weights expect of images, where the source tells; `preprocessing_of` knows it by name.
        description: In words: which file of which revision, in whose names, and what was left out of it.
        sha256: Of the file, in hex.
    """

    tensors: dict[str, np.ndarray]
    preprocessing: Preprocessing | None
    description: str
    sha256: str


class _Located(NamedTuple):
    weights: Path
    config: Path | None
    description: str
    sha256: str = ""  # as it should be, where that is known


def read_weights(source: str) -> WeightFile:
    """Reads public weights.

    Args:
        source: One of
            - a `.safetensors` file in timm's names, torchvision's or DINOv2's;
            - a `.npz` file of Google's: original ViT and AugReg, big_vision and SigLIP, BiT (see `npz_weights`);
            - a folder with `model.safetensors` and timm's `config.json`;
            - `hf_hub:timm/NAME`, or `hf_hub:timm/NAME@REVISION` (`pip install p10k_jax[hub]`).

    Raises:
        ValueError: no such source, another kind of file, a damaged one; the message names it and says what to do.
    """
    located = _locate(source)
    path = located.weights
    sha256 = _sha256(path)
    if located.sha256 not in ("", sha256):
        raise ValueError(f"{path} is damaged or cut short (sha256 {sha256}, not {located.sha256}); fetch it again.")
    preprocessing = _preprocessing(located)
    if path.suffix == ".npz":
        tensors, layout = read_npz_weights(path)
    else:
        tensors, layout = in_timm_names(_read_safetensors(path), str(path))
    return WeightFile(tensors, preprocessing, f"{located.description}; {layout}", sha256)


def read_preprocessing(source: str) -> Preprocessing | None:
    """As `read_weights(source).preprocessing`, without reading the weights; a hub's file is fetched if need be."""
    return _preprocessing(_locate(source))


def _locate(source: str) -> _Located:
    """The files that a source means."""
    if source.startswith(PREFIXES):
        files = fetch_from_hub(source)
        config = _read_config(files.config) if files.config else {}
        named = f" ({name})" if isinstance(name := config.get("architecture"), str) else ""
        return _Located(files.weights, files.config, f"{source} at {files.commit}{named}", files.sha256)
    if "://" in source:
        raise ValueError(f"model.weights={source} is an address; fetch the file and give its path.")
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / WEIGHTS).is_file():
            inside = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
            raise ValueError(f"model.weights={path}: the folder has no {WEIGHTS}; it holds {inside}.")
        config = path / CONFIG
        return _Located(path / WEIGHTS, config if config.is_file() else None, str(path / WEIGHTS))
    if not path.is_file():
        raise ValueError(f"model.weights={path}: there is no such file.")
    if path.suffix not in (".safetensors", ".npz"):
        raise ValueError(
            f"model.weights={path} is no .safetensors or .npz file; a pickle (.pth, .bin, .ckpt) could run any code "
            "and is not read. Convert it where you trust it: safetensors.torch.save_file(state_dict, 'x.safetensors')."
        )
    return _Located(path, None, str(path))


def _preprocessing(located: _Located) -> Preprocessing | None:
    """As `config.json` says, or as the file's names and shapes do."""
    if located.config is not None:
        return preprocessing_of_config(_read_config(located.config), str(located.config))
    if located.weights.suffix == ".npz":
        return npz_preprocessing(located.weights)
    shapes = _safetensors_shapes(located.weights)
    table, kernel = shapes.get("encoder.pos_embedding", ()), shapes.get("conv_proj.weight", ())
    if not is_torchvision_vit(shapes) or len(table) != 3 or len(kernel) != 4:
        return None
    return Preprocessing(*IMAGENET, math.isqrt(max(0, table[1] - 1)) * kernel[-1])


def _read_config(path: Path) -> Mapping[str, Any]:
    config = read_json(path, "fetch it again")
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not timm's config.json, which is an object with pretrained_cfg.")
    return config


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"model.weights={path} cannot be read: {error.strerror}.") from error


def _safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with _safetensors_damage(path), safetensors.safe_open(path, framework="numpy") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    with _safetensors_damage(path), safetensors.safe_open(path, framework="numpy") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        for name, kind in kinds.items():
            if not _KINDS.fullmatch(kind):
                raise ValueError(f"model.weights={path}: {name} is {kind}; floats of 16, 32 or 64 bits are read.")
        return {name: np.asarray(file.get_tensor(name), np.float32) for name in kinds}


@contextlib.contextmanager
def _safetensors_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"model.weights={path} is damaged or cut short ({error}); fetch it again.") from error
