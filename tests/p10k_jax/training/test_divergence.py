import math

import pytest

from p10k_jax.training.divergence import Diverged, DivergenceWatch


def see(watch, losses, norm=1.0):
    for step, loss in enumerate(losses, start=1):
        watch(step, {"loss": loss, "gradient_norm": norm})


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)])
def test_stops_where_loss_or_gradient_is_not_finite(loss, norm):
    watch = DivergenceWatch(skips=False)
    see(watch, [9.2, 9.1])
    with pytest.raises(Diverged, match=r"diverged at step 3: the loss is .*, the norm of the gradient") as diverged:
        watch(3, {"loss": loss, "gradient_norm": norm})
    assert diverged.value.step == 3


@pytest.mark.parametrize(("first", "limit"), [(9.2, 1000.0), (0.001, 1000.0), (6700.0, 67000.0)])
def test_stops_where_the_loss_explodes(first, limit):
    watch = DivergenceWatch(skips=True)
    see(watch, [first, limit])
    with pytest.raises(Diverged, match="above"):
        watch(3, {"loss": limit * 1.01, "gradient_norm": 1.0})


def test_skipped_steps_end_a_run_when_twenty_come_in_a_row():
    watch = DivergenceWatch(skips=True)
    see(watch, [*[math.nan] * 19, 3.0, *[math.nan] * 19])
    with pytest.raises(Diverged, match="20 steps in a row"):
        watch(40, {"loss": math.nan, "gradient_norm": 1.0})
