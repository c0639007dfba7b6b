import threading

import jax
import pytest

from p10k_jax.training.checkpoint import Checkpoints
from p10k_jax.training.saving import Saves
from tests.p10k_jax.training.test_checkpoint import make_mesh, make_state


def state(step):
    return make_state(make_mesh(), step)


def open_saves(folder, said, opened=Checkpoints, time_limit=60.0):
    return Saves(lambda: opened(folder, metric="top1"), time_limit=time_limit, say=said.append)


def test_saves_and_knows_the_best(tmp_path):
    said = []
    saves = open_saves(tmp_path, said)
    for step, top1 in ((1, 0.5), (2, 0.4), (3, None)):
        saves.save(state(step), step=step, metrics=None if top1 is None else {"top1": top1})
        assert saves.newest == step
    saves.finish()
    assert (saves.saved, saves.best, saves.lost, said) == (3, (0.5, 1), [], [])
    again = open_saves(tmp_path, said)
    assert (again.saved, again.best, again.evaluated(1), again.evaluated(3)) == (3, (0.5, 1), True, False)
    again.save(state(3), step=3, metrics={"top1": 0.6})  # evaluated afterwards
    again.finish()
    assert open_saves(tmp_path, said).best == (0.6, 3)


def test_a_folder_that_is_gone_costs_the_checkpoint_and_not_the_run(tmp_path):
    folder, said = tmp_path / "checkpoints", []
    saves = open_saves(folder, said)
    saves.save(state(1), step=1)
    saves.finish()
    folder.rename(tmp_path / "away")
    folder.write_text("a file is in the way")
    saves.save(state(2), step=2)
    saves.save(state(3), step=3)
    assert saves.lost == [2, 3]
    assert all("CHECKPOINT LOST: that of step" in line and "Training goes on" in line for line in said)
    folder.unlink()
    (tmp_path / "away").rename(folder)
    saves.save(state(4), step=4)
    saves.finish()
    assert (saves.saved, saves.lost) == (4, [2, 3])


def test_storage_that_hangs_is_given_up_and_tried_again_when_it_answers(tmp_path):
    answers, said = threading.Event(), []

    class Hanging(Checkpoints):
        def save(self, state, *, step, metrics=None):
            if step == 2:
                assert answers.wait(60)
            super().save(state, step=step, metrics=metrics)

    saves = open_saves(tmp_path, said, Hanging, time_limit=1.0)
    saves.save(state(1), step=1)
    saves.save(state(2), step=2)
    assert saves.lost == [2]
    assert "step 2: not written after 1 s (checkpoint.time_limit)" in said[0]
    saves.save(state(3), step=3)
    assert (saves.lost, saves.newest) == ([2, 3], 1)
    assert "the storage still hangs" in said[1]
    answers.set()
    saves._hanging.join(60)
    saves.save(state(4), step=4)
    saves.finish()
    assert (saves.saved, saves.lost) == (4, [2, 3])


def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
    saves = open_saves(tmp_path, [])
    saves.save(state(1), step=1)
    broken = jax.tree.map(lambda leaf: leaf / 0 if leaf.ndim else leaf, state(2))
    with pytest.raises(FloatingPointError, match=r"after step 2 is not finite in params.kernel"):
        saves.save(broken, step=2)
    saves.finish()
    assert Checkpoints(tmp_path, metric="top1", read_only=True).steps() == [1]
