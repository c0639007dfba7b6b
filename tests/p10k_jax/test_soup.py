"""Soups: the averaging by itself, and a whole one out of finished runs."""

import numpy as np
import pytest

from p10k_jax.evaluate import evaluate
from p10k_jax.evaluate import plan as plan_evaluation
from p10k_jax.finished import open_run
from p10k_jax.reporting.progress import Console
from p10k_jax.soup import judge, plan, write_soup
from p10k_jax.train import plan as plan_training
from p10k_jax.train import train
from p10k_jax.training.averaging import greedy_soup, uniform_soup
from tests.runs import start, tiny_config


def test_uniform_soup_is_the_mean():
    trees = [{"a": np.float32([1, 2]), "b": {"c": np.float32(3)}}, {"a": np.float32([3, 5]), "b": {"c": np.float32(0)}}]
    soup = uniform_soup(trees)
    np.testing.assert_array_equal(soup["a"], np.float32([2, 3.5]))
    assert soup["b"]["c"] == np.float32(1.5)
    assert soup["a"].dtype == np.float32


def test_greedy_soup_takes_in_what_does_not_harm():
    # One number a run; what is judged is how near the mean comes to 1.
    runs = [{"x": np.float64(value)} for value in (5.0, 1.4, 0.7, -4.0)]

    def judge(tree):
        return -abs(float(tree["x"]) - 1)

    kept, figure = greedy_soup(runs.__getitem__, [judge(run) for run in runs], judge)
    assert kept == [2, 1]  # the best first; (0.7 + 1.4) / 2 is better, and with 5 or -4 it is worse
    assert figure == pytest.approx(-0.05)


def test_soups_that_are_none():
    with pytest.raises(ValueError, match="at least one run"):
        uniform_soup([])
    with pytest.raises(ValueError, match="runs of one architecture"):
        uniform_soup([{"a": np.ones(2)}, {"a": np.ones(3)}])


@pytest.fixture(scope="module")
def two(finished, tiny_data, tmp_path_factory):
    """Two short runs from the weights of `finished`, with other seeds."""
    workdirs = [tmp_path_factory.mktemp("two") / str(seed) for seed in (7, 8)]
    for seed, workdir in enumerate(workdirs):
        overrides = {"model.weights": str(finished[0]), "seed": seed, "duration.steps": 3}
        train(plan_training(tiny_config(tiny_data, **overrides), workdir), Console())
    return workdirs


def test_a_soup_is_a_workdir_like_any_other(two, tmp_path):
    runs = plan(two, tmp_path / "soup", "uniform")
    soup = uniform_soup([run.weights() for run in runs])
    top1 = judge(runs[0], "validation")(soup)
    write_soup(tmp_path / "soup", runs, soup, top1, "uniform")
    again = open_run(tmp_path / "soup").weights()
    np.testing.assert_array_equal(again["params"]["head"]["kernel"], soup["params"]["head"]["kernel"])
    figures = evaluate(plan_evaluation(tmp_path / "soup", "validation", "best"), Console())
    assert figures["top1"] == top1
    soups = plan([tmp_path / "soup", two[0]], tmp_path / "of soups", "uniform")
    write_soup(tmp_path / "of soups", soups, soup, top1, "uniform")
    assert open_run(tmp_path / "of soups").config.soup.of[0].startswith(str(tmp_path / "soup"))


@pytest.mark.parametrize("method", ["greedy", "uniform"])
def test_command_line(two, tmp_path, method):
    process = start("soup", [f"--workdirs={two[0]},{two[1]}", f"--workdir={tmp_path / method}", f"--method={method}"])
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert ("the soup of 2 of 2 runs" in output) or method == "greedy"
    assert (tmp_path / method / "config.json").exists()


def test_refusals(finished, two, tiny_data, tmp_path):
    with pytest.raises(ValueError, match="give at least two runs"):
        plan(two[:1], tmp_path / "soup", "greedy")
    with pytest.raises(ValueError, match=r"--method='mean' is unknown; known: greedy, uniform"):
        plan(two, tmp_path / "soup", "mean")
    with pytest.raises(ValueError, match=r"holds checkpoints, classes\.csv, config\.json"):
        plan(two, two[0], "greedy")
    with pytest.raises(ValueError, match="started from chance"):
        plan([finished[0], two[0]], tmp_path / "soup", "greedy")
    for overrides, message in (
        ({"eval.crop": 1.0}, "eval.crop: 0.0 -> 1.0"),
        ({"model.weights": str(two[0])}, "model.weights_sha256"),
    ):
        workdir = tmp_path / message
        settings = {"model.weights": str(finished[0]), "duration.steps": 1} | overrides
        train(plan_training(tiny_config(tiny_data, **settings), workdir), Console())
        with pytest.raises(ValueError, match=f"differs from .* in {message}"):
            plan([two[0], workdir], tmp_path / "soup", "greedy")
