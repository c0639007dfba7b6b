import pytest

from p10k_jax.training.duration import run_steps, to_steps

SIZES = {"batch_size": 32, "num_examples": 100}


@pytest.mark.parametrize(
    ("duration", "steps"),
    [({"steps": 7}, 7), ({"epochs": 2.0}, 7), ({"epochs": 0.5}, 2), ({"examples": 33}, 2), ({"percent": 12.5}, 5)],
)
def test_units(duration, steps):
    units = dict.fromkeys(("steps", "epochs", "examples", "percent")) | duration
    assert to_steps(units, setting="x", total_steps=40, **SIZES) == steps


@pytest.mark.parametrize("duration", [{}, {"steps": 3, "epochs": 1.0}, {"minutes": 3}])
def test_exactly_one_unit(duration):
    with pytest.raises(ValueError, match=r"eval\.every=.*give exactly one of steps, epochs, examples, percent"):
        to_steps(duration, setting="eval.every", **SIZES)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_bad_number(value):
    with pytest.raises(ValueError, match=r"warmup\.epochs=.* must be a number >= 0"):
        to_steps({"epochs": value}, setting="warmup", **SIZES)


def test_percent_of_the_run():
    assert run_steps({"epochs": 10.0, "percent": None}, **SIZES) == 32
    assert run_steps({"epochs": 10.0, "percent": 25.0}, **SIZES) == 8
    with pytest.raises(ValueError, match="no step at all"):
        run_steps({"steps": 0}, **SIZES)
    with pytest.raises(ValueError, match="nothing to be a percentage of"):
        to_steps({"percent": 5.0}, setting="x", **SIZES)
