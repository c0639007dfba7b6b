"""What `run.json` says of how a run was started."""

import sys

import pytest

from p10k_jax.facts import facts
from p10k_jax.models import create


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["train.py", "--config=a b.py"], "train.py '--config=a b.py'"),
        (["/lib/ipykernel_launcher.py", "-f", "kernel.json"], ""),
        (["/lib/colab_kernel_launcher.py", "-f", "kernel.json"], ""),
    ],
)
def test_the_command_is_for_a_shell_and_a_notebook_has_none(monkeypatch, argv, command):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    model = create("vit-Ti/8", num_classes=2, image_size=16, width=16, depth=1, heads=1)
    assert facts(model, 16)["command"] == command
