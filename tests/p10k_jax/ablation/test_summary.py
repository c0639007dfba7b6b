"""The table of an ablation, of runs that are there."""

import io
import json

import pytest

from p10k_jax import ablate
from p10k_jax.ablate import execute, plan, report
from p10k_jax.ablation.runs import held, make_runs, write_failure
from p10k_jax.reporting.progress import Console
from tests.finished_runs import finish


@pytest.fixture
def ablation(tmp_path):
    """Two variants with two seeds; nothing is finished."""
    return plan("tests/ablation_of_two.py", None, [], tmp_path, seeds=2)


@pytest.mark.parametrize("odd_one", ["plain", "odd"])
def test_a_seed_that_was_evaluated_on_other_images_is_told_and_stops_nothing(ablation, odd_one):
    """As where photos were added to the catalogue before a seed was."""
    for run in ablation.runs:
        finish(run, images=41 if (run.variant, run.seed) == (odd_one, 1) else 40)
    plain, odd = report(ablation)["variants"]
    mixed, other = (plain, odd) if odd_one == "plain" else (odd, plain)
    assert mixed["top1_interval"] is None
    assert len(other["top1_interval"]) == 2
    assert "seed 1 has 41 images" in mixed["difference"]["refused"]
    assert "refused" in odd["difference"]
    for name in ("ablation.md", "ablation.html"):
        assert "seed 1 has 41 images" in (ablation.workdir / name).read_text()


def test_a_run_that_has_finished_since_it_failed_is_finished(ablation):
    for run in ablation.runs:
        finish(run)
    write_failure(ablation.runs[1], "no space left")
    states = [run["state"] for variant in report(ablation)["variants"] for run in variant["runs"]]
    assert states == ["finished"] * 4


def test_one_seed_has_no_range(ablation):
    finish(ablation.runs[0])
    report(ablation)
    assert "range" not in (ablation.workdir / "ablation.md").read_text()
    finish(ablation.runs[2], right=0.75)
    report(ablation)
    assert "| 50.00% to 75.00% |" in (ablation.workdir / "ablation.md").read_text()


def test_runs_that_another_process_holds_are_told_at_the_end(ablation, monkeypatch):
    for run in ablation.runs[1:]:
        finish(run)
    monkeypatch.setattr(ablate, "_prepare", lambda runs: None)
    said = io.StringIO()
    with held(ablation.runs[0]):
        assert execute(ablation, Console(said, alone=True)) == 0
    assert said.getvalue().endswith("takes up what it leaves:\n  run 1 of 4: plain seed 0\n")


def test_a_seed_of_any_number_is_shown_without_those_before_it(tmp_path, monkeypatch):
    (tmp_path / "plain" / "seed20240101").mkdir(parents=True)
    (tmp_path / "plain" / "seed20240101" / "config.json").write_text("{}")
    made = []

    def make(workdir, configs, seeds, **how):
        made.extend(seeds)
        return make_runs(workdir, configs, made[:4], **how)

    monkeypatch.setattr(ablate, "make_runs", make)
    runs = plan("tests/ablation_of_two.py", None, [], tmp_path, seeds=1).runs
    assert made == [0, 20240101]
    assert [(run.variant, run.seed) for run in runs] == [("plain", 0), ("odd", 0), ("plain", 20240101)]


def test_what_another_process_finishes_meanwhile_is_not_done_again(ablation, monkeypatch):
    """Two processes with the same command: the second comes to a run after the first has left it."""

    def prepared(runs):
        assert len(list(runs)) == 4
        for run in ablation.runs:  # the other process is faster
            finish(run)

    monkeypatch.setattr(ablate, "_prepare", prepared)
    monkeypatch.setattr(ablate, "run_child", lambda module, *_, **__: pytest.fail(f"{module} was started"))
    said = io.StringIO()
    assert execute(ablation, Console(said, alone=True)) == 0
    assert said.getvalue().count("another process has finished it meanwhile") == 4
    assert json.loads((ablation.workdir / "ablation.json").read_text())["variants"][0]["figures"]["top1"] == 0.5
