"""What one of several processes reads of a run's training batches: `python -m tests.host_batches OUT.npz FLAGS...`.

The flags are those of `p10k_jax.train`.
"""

import sys
from pathlib import Path

import numpy as np
from absl import flags

from p10k_jax import hosts, pixels
from p10k_jax.config import config_of_flags
from p10k_jax.data.decode import DecodeReport
from p10k_jax.train import define_flags, plan

STEPS = 4

define_flags()
_, out = flags.FLAGS([sys.argv[0], *sys.argv[2:]]), sys.argv[1]
with hosts.joined(flags.FLAGS.multihost, peer_seconds=60):
    run = plan(config_of_flags(), Path(flags.FLAGS.workdir))
    batches = pixels.training_batches(
        run.config, run.split, run.decoded, run.mesh, steps=range(STEPS), report=DecodeReport(), order=run.order
    )
    rows, images = [], []
    for step, batch in enumerate(batches):
        for index, image in zip(*(batch.device[key].addressable_shards for key in ("index", "image")), strict=True):
            start = step * run.config.batch_size + (index.index[0].start or 0)
            rows += enumerate(np.asarray(index.data).tolist(), start)
            images += [image.data[i].astype(np.uint64).sum() for i in range(len(image.data))]
    np.savez(out, rows=np.array(rows), images=np.array(images))
