"""That the chaos script would notice: a run that ended otherwise, lost steps, or went back behind a checkpoint."""

import json
import shutil

import pytest

from tests.chaos.comparing import Comparison
from tests.chaos.rounds import HARDWARE, HOME, Lost, Round, _check_went_on, draw_round, play

SAME = Round((HOME, HOME), ())
OTHER = Round((HOME, "1"), ())


@pytest.fixture(scope="module")
def comparison(finished, tiny_data):
    return Comparison(tiny_data, {HOME: finished[0]})


@pytest.mark.long
def test_an_equal_end_is_equal(finished, comparison):
    assert comparison.difference(finished[0], SAME) == ("", 0.0)
    assert comparison.difference(finished[0], OTHER) == ("", 0.0)


@pytest.mark.long
def test_another_end_is_noticed(finished, comparison, tmp_path):
    workdir = tmp_path / "workdir"
    shutil.copytree(finished[0], workdir)
    file = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    [last] = [row for row in rows if row["step"] == 30 and "train/loss" in row]
    last["train/loss"] *= 1 + 2e-5
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert comparison.difference(workdir, SAME)[0] == "losses or accuracies"
    difference, distance = comparison.difference(workdir, OTHER)
    assert difference == f"final loss off by {distance:.1e}"
    assert distance == pytest.approx(2e-5, rel=0.01)


@pytest.mark.long
def test_a_row_that_stands_there_twice_is_noticed(finished, comparison, tmp_path):
    workdir = tmp_path / "workdir"
    shutil.copytree(finished[0], workdir)
    file = workdir / "metrics.jsonl"
    rows = file.read_text()
    file.write_text(rows + next(row for row in rows.splitlines(keepends=True) if "validation/top1" in row))
    assert comparison.difference(workdir, SAME)[0] == "losses or accuracies"


@pytest.mark.long
def test_another_state_is_noticed(finished, comparison, tmp_path):
    workdir = tmp_path / "workdir"
    shutil.copytree(finished[0], workdir)
    shutil.rmtree(workdir / "checkpoints" / "30")
    (workdir / "checkpoints" / "27").rename(workdir / "checkpoints" / "30")
    assert comparison.difference(workdir, SAME)[0] == "final state"


def test_a_run_that_does_not_come_to_its_end_is_lost(tiny_data, tmp_path):
    (tmp_path / "workdir").write_text("a file")
    with pytest.raises(Lost, match="exit code 2"):
        play(SAME._replace(hardware=(HOME,)), tiny_data, tmp_path / "workdir")


def test_going_back_behind_a_checkpoint_is_lost():
    _check_went_on("30 steps of 16 images; goes on after step 9", 9)
    with pytest.raises(Lost, match="went on after step 6, where the checkpoint of step 9 was complete"):
        _check_went_on("30 steps of 16 images; goes on after step 6", 9)
    with pytest.raises(Lost, match="after step 0"):
        _check_went_on("30 steps of 16 images", 3)


def test_rounds_are_drawn_from_the_seed_and_half_of_them_change_the_hardware():
    rounds = [draw_round(0, number) for number in range(40)]
    assert rounds == [draw_round(0, number) for number in range(40)]
    assert rounds != [draw_round(1, number) for number in range(40)]
    assert [played.same for played in rounds] == [number % 2 == 0 for number in range(40)]
    assert {name for played in rounds for name in played.hardware} == set(HARDWARE)
    assert {end.when for played in rounds for end in played.ends} == {"start", "step", "save"}
