"""Carries a checkpoint from one mesh to another: `python -m tests.crossing FROM TO DATA FSDP MODEL [MULTIHOST]`.

FROM and TO are folders of checkpoints; where FROM is `-` the state is made.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from p10k_jax import hosts
from p10k_jax.training.checkpoint import Checkpoints, abstract_state, restore_latest
from p10k_jax.training.mesh import make_mesh, state_shardings

STEP = 5
SIZES = {"kernel": (256, 128), "bias": (128,), "odd": (7, 3, 11)}


def state():
    """The same numbers in every process."""
    random = np.random.RandomState(0)
    params = {name: random.standard_normal(size).astype(np.float32) for name, size in SIZES.items()}
    return {"step": np.int32(STEP), "params": params, "opt_state": {"mu": {"kernel": params["kernel"] ** 2}}}


def main(source: str, target: str, data: str, fsdp: str, model: str, multihost: str = "") -> None:
    with hosts.joined(multihost, peer_seconds=60):
        mesh = make_mesh(int(data), int(fsdp), int(model))
        shapes = jax.eval_shape(lambda: jax.tree.map(jax.numpy.asarray, state()))
        shardings = state_shardings(mesh, shapes, ())
        if source == "-":
            carried = jax.tree.map(
                lambda value, sharding: jax.make_array_from_callback(value.shape, sharding, lambda part: value[part]),
                *(state(), shardings),
            )
        else:
            carried, _ = restore_latest(Path(source), abstract_state(shapes, shardings), metric="top1", say=print)
        kernel = carried["params"]["kernel"]
        assert kernel.sharding.num_devices == len(jax.devices())
        assert len(kernel.sharding.device_set) == mesh.size
        checkpoints = Checkpoints(Path(target), metric="top1")
        checkpoints.save(carried, step=STEP)
        checkpoints.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
