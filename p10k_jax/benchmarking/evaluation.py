"""The evaluation step."""

import time
from typing import Any

import jax

from p10k_jax import setup
from p10k_jax.benchmarking.subject import Subject
from p10k_jax.benchmarking.windows import time_windows
from p10k_jax.hardware import peak_flops
from p10k_jax.models.cost import forward_flops
from p10k_jax.reporting.pace import Pace
from p10k_jax.training.state import evaluation_weights


def bench_evaluation(subject: Subject, *, steps: int) -> dict[str, Any]:
    """Figures of the evaluation, with `steps` in a window; see `docs/speed.md`.

    Raises:
        ValueError: the config evaluates nothing, or too few images.
    """
    config = subject.config
    if subject.evaluation is None:
        raise ValueError("eval.split is empty: there is nothing to evaluate.")
    weights = evaluation_weights(subject.init(subject.program()))
    classes = config.model.num_classes
    predict = setup.jitted_predict_step(config, setup.make_model(config), subject.mesh, num_classes=classes)
    pace = Pace(config.eval.batch_size, peak_flops=peak_flops(subject.mesh.devices.flat))
    flops = forward_flops(setup.make_model(config, padded=False), config.eval.image_size)
    pace.work(flops)
    began = time.monotonic()
    jax.block_until_ready(predict(*weights, next(subject.evaluation(1)).device))
    first = time.monotonic() - began
    timed = time_windows(
        lambda batch: predict(*weights, batch.device)["top_labels"],
        subject.evaluation,
        pace,
        steps=steps,
    )
    common = {"image_size": config.eval.image_size, "batch_size": config.eval.batch_size, "flops_per_image": flops}
    return timed | common | {"first_step_seconds": first}
