"""Times training steps on synthetic pictures that lie on the device, in this process; prints the figures as JSON.

    python -m tests.peers.stepping p10k_jax vit_small_patch16_224 --device=cuda --batch_size=256 --steps=50

Both update the same architecture by the same rule, on a softmax with smoothed labels: timm as its train.py does with
`--amp --amp-dtype=bfloat16 --torchcompile`, on normalised images; p10k_jax as `p10k_jax.train` does with
`data.residency=device`, where the step also gathers its rows and cuts, resizes and normalises views. On CPUs both
compute in float32.
"""

import argparse
import functools
import json
import os
import time
from collections.abc import Callable
from typing import NamedTuple

IMAGE_SIZE, CLASSES = 224, 1000
LABEL_SMOOTHING, WARM_STEPS = 0.1, 5
_BATCHES = 4  # of different pictures


class Speed(NamedTuple):
    """Images a second, the most bytes of the device's memory in use (None: it does not tell), and which device."""

    images_per_second: float
    peak_bytes: int | None
    device: str


def _timed(step: Callable[[int], None], wait: Callable[[], None], batch_size: int, steps: int) -> float:
    """Images a second of `step(number)`, after a few to warm up."""
    for number in range(WARM_STEPS):
        step(number)
    wait()
    start = time.monotonic()
    for number in range(WARM_STEPS, WARM_STEPS + steps):
        step(number)
    wait()
    return steps * batch_size / (time.monotonic() - start)


def is_vit(name: str) -> bool:
    """Whether it is trained by AdamW as a ViT, or else by SGD as a ResNet."""
    return "resnet" not in name


def timm_speed(name: str, device: str, batch_size: int, steps: int) -> Speed:
    """timm's training step; see the module."""
    import timm
    import timm.optim
    import torch

    torch.backends.cudnn.benchmark = True
    layout = torch.contiguous_format if is_vit(name) else torch.channels_last
    model = timm.create_model(name, num_classes=CLASSES).to(device=device, memory_format=layout).train()
    rule = {"opt": "adamw", "weight_decay": 0.05} if is_vit(name) else {"opt": "sgd", "weight_decay": 5e-5}
    optimizer = timm.optim.create_optimizer_v2(model, lr=1e-3, momentum=0.9, **rule)
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    compiled = torch.compile(model)
    shape = (_BATCHES, batch_size, 3, IMAGE_SIZE, IMAGE_SIZE)
    images = [one.contiguous(memory_format=layout) for one in torch.randn(shape, device=device)]
    labels = torch.randint(CLASSES, (_BATCHES, batch_size), device=device)

    def step(number: int) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = loss_function(compiled(images[number % _BATCHES]), labels[number % _BATCHES])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    on_gpu = device == "cuda"
    rate = _timed(step, torch.cuda.synchronize if on_gpu else lambda: None, batch_size, steps)
    peak = torch.cuda.max_memory_allocated() if on_gpu else None
    return Speed(rate, peak, torch.cuda.get_device_name() if on_gpu else "cpu")


def our_speed(name: str, device: str, batch_size: int, steps: int) -> Speed:
    """Our training step; see the module."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from configs import resnet, vit
    from p10k_jax import recipe, setup
    from p10k_jax.data.order import TrainingOrder
    from p10k_jax.data.resident import Resident, abstract_resident, index_batches
    from p10k_jax.program import training_program
    from p10k_jax.training.duration import to_steps
    from p10k_jax.training.mesh import batch_sharding, make_mesh

    config = (vit if is_vit(name) else resnet).get_config()
    config.model.name, config.batch_size = name, batch_size
    config.model.options.pool = None  # as timm's name says
    config.optimizer.name = "adamw" if is_vit(name) else "sgd"
    config.optimizer.clip_norm = config.ema_decay = 0.0
    config.loss.label_smoothing = LABEL_SMOOTHING
    config.data.image_size = IMAGE_SIZE
    setup.resolve_sizes(config, recipe.preprocessing(config), num_classes=CLASSES, num_groups=0)
    mesh = make_mesh(devices=jax.devices()[:1])  # torch takes one
    sharding, num_examples = batch_sharding(mesh), _BATCHES * batch_size
    shapes = abstract_resident(num_examples, config.data.canvas_size, sharding)
    total = WARM_STEPS + steps
    sizes = {"batch_size": batch_size, "num_examples": num_examples, "total_steps": total}
    program = training_program(
        config,
        setup.make_model(config, training=True),
        mesh,
        class_counts=lambda: np.ones(CLASSES, np.int64),
        total_steps=total,
        in_steps=functools.partial(to_steps, **sizes),
        resident=shapes,
    )
    compiled = program.phases[0].lowered.compile()

    def synthetic() -> Resident:
        key = jax.random.key(0)
        return Resident(
            jax.random.bits(key, shapes.images.shape, jnp.uint8),
            jnp.ones(num_examples),
            jax.random.randint(key, (num_examples,), 0, CLASSES),
            jnp.zeros(num_examples, jnp.int32),
        )

    resident = jax.jit(synthetic, out_shardings=jax.tree.map(lambda one: one.sharding, shapes))()
    order = TrainingOrder(config.seed, num_examples)
    batches = index_batches(sharding=sharding, batch_size=batch_size, steps=range(total), order=order)
    state = jax.jit(program.initial, out_shardings=program.shardings)({})

    def step(number: int) -> None:
        nonlocal state
        state, _ = compiled(state, next(batches).device, resident)

    rate = _timed(step, lambda: jax.block_until_ready(state), batch_size, steps)
    [used] = mesh.devices.flat
    return Speed(rate, (used.memory_stats() or {}).get("peak_bytes_in_use"), used.device_kind)


SIDES = {"p10k_jax": our_speed, "timm": timm_speed}


def main() -> None:
    """Reads the flags, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers.stepping", description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("model", help="a name of timm's")
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    given = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = given.device
    speed = SIDES[given.side](given.model, given.device, given.batch_size, given.steps)
    print(json.dumps(speed._asdict()))


if __name__ == "__main__":
    main()
