"""What of an ablation's runs counts as done."""

import pytest

from p10k_jax.ablate import plan
from p10k_jax.ablation.runs import is_finished
from tests.finished_runs import evaluate, finish


@pytest.fixture
def ablation(tmp_path):
    """An ablation whose runs are all finished."""
    ablation = plan("tests/ablation_of_two.py", None, [], tmp_path, seeds=1)
    for run in ablation.runs:
        finish(run)
    return ablation


def test_an_evaluation_of_the_mirror_image_too_is_another(ablation):
    run = ablation.runs[0]
    assert is_finished(run, ablation.judged)
    evaluate(run, flip=True)
    assert not is_finished(run, ablation.judged)


@pytest.mark.parametrize("settings", [{"image_size": 64}, {"crop": 0.5}, {"step": 2}, {"flip": True}])
def test_predictions_that_are_not_those_of_the_figures_do_not_count(ablation, settings):
    """As where a later evaluation with other settings was killed between its two files."""
    run = ablation.runs[0]
    path = run.workdir / "eval" / "test" / "metrics.json"
    figures = path.read_text()
    evaluate(run, **settings)
    path.write_text(figures)
    assert not is_finished(run, ablation.judged)
