"""Eight CPU devices for every test; set before JAX is imported, and inherited by child processes."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import pytest


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Folder with the smallest drawn catalogue, prepared."""
    from tfds_builder.prepare import prepare

    folder = tmp_path_factory.mktemp("tiny_data")
    prepare("drawn_catalogue", config="tiny", data_dir=folder, progress=False)
    return folder
