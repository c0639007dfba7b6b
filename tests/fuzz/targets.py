"""The targets by name, and the module of each: one imports only what it reads with."""

import importlib

from tests.fuzz.check import Target

MODULES = {
    "raw_catalogue": "raw_targets",
    "raw_archive": "raw_targets",
    "raw_tables": "raw_targets",
    "pictures": "picture_targets",
    "picture_lists": "picture_targets",
    "safetensors": "weight_targets",
    "npz": "weight_targets",
    "timm_export": "export_targets",
    "jax_export": "export_targets",
    "settings": "run_targets",
    "workdir": "run_targets",
    "decoded": "run_targets",
    "predictions": "run_targets",
    "page": "text_targets",
    "terminal": "text_targets",
}


def load(name: str) -> Target:
    """The target of that name."""
    return importlib.import_module(f"tests.fuzz.{MODULES[name]}").TARGETS[name]
