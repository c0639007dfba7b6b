import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.training.checkpoint import Best, Checkpoints, abstract_state, restore_latest
from p10k_jax.training.mesh import make_mesh, state_shardings


def make_state(mesh, value):
    state = {"step": jnp.int32(value), "params": {"kernel": jnp.full((256, 64), value, jnp.float32)}, "opt_state": ()}
    return jax.device_put(state, state_shardings(mesh, state, ()))


def abstract(mesh):
    shapes = jax.eval_shape(lambda: make_state(make_mesh(), 0.0))
    return abstract_state(shapes, state_shardings(mesh, shapes, ()))


def save_all(folder, accuracies):
    checkpoints = Checkpoints(folder, metric="top1")
    for step, accuracy in accuracies.items():
        metrics = None if accuracy is None else {"top1": accuracy, "count": 3}
        checkpoints.save(make_state(make_mesh(), step), step=step, metrics=metrics)
    checkpoints.close()
    return Checkpoints(folder, metric="top1", read_only=True)


def test_keeps_the_last_two_and_the_best(tmp_path):
    checkpoints = save_all(tmp_path, {1: None, 2: 0.5, 3: 0.7, 4: None, 5: 0.6, 6: None})
    assert checkpoints.steps() == [3, 5, 6]
    assert checkpoints.best() == Best(0.7, 3)
    assert (checkpoints.resolve("best"), checkpoints.resolve("last"), checkpoints.resolve("3")) == (3, 6, 3)
    state = checkpoints.restore(3, abstract(make_mesh()))
    np.testing.assert_array_equal(state["params"]["kernel"], np.full((256, 64), 3.0))


def test_of_equals_the_latest_is_the_best(tmp_path):
    checkpoints = save_all(tmp_path, {1: 0.5, 2: 0.5, 3: 0.4, 4: 0.3})
    assert checkpoints.best() == Best(0.5, 2)
    assert checkpoints.steps() == [2, 3, 4]


def test_restores_on_another_mesh_and_in_part(tmp_path):
    checkpoints = save_all(tmp_path, {7: 0.1})
    wanted = abstract(make_mesh(data=2, fsdp=4))
    state = checkpoints.restore(7, {"params": wanted["params"]})
    assert set(state) == {"params"}
    kernel = state["params"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (64, 64)
    np.testing.assert_array_equal(kernel, np.full((256, 64), 7.0))


def test_a_half_written_checkpoint_is_none(tmp_path):
    save_all(tmp_path, {1: 0.5})
    half = tmp_path / "2.orbax-checkpoint-tmp"
    (half / "default").mkdir(parents=True)
    (half / "default" / "d").write_bytes(b"half")
    checkpoints = Checkpoints(tmp_path, metric="top1")
    assert checkpoints.steps() == [1]
    checkpoints.save(make_state(make_mesh(), 2), step=2, metrics=None)
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_what_there_is_not(tmp_path):
    empty = Checkpoints(tmp_path / "none", metric="top1")
    assert empty.best() is None
    with pytest.raises(ValueError, match="No complete checkpoint in"):
        empty.resolve("last")
    checkpoints = save_all(tmp_path / "some", {4: None})
    with pytest.raises(ValueError, match=r"checkpoint='5': give 'last', 'best' or one of the steps \[4\]"):
        checkpoints.resolve("5")
    with pytest.raises(ValueError, match=r"was evaluated; there are steps \[4\]"):
        checkpoints.resolve("best")


@pytest.mark.parametrize("error", [ValueError("UNAVAILABLE: Error reading .zarray: timed out"), TimeoutError("slow")])
def test_a_storage_that_does_not_answer_is_no_damage(tmp_path, monkeypatch, error):
    save_all(tmp_path, {1: 0.5, 2: 0.6})

    def unreachable(*_, **__):
        raise error

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.restore", unreachable)
    with pytest.raises(ConnectionError, match=r"the checkpoint of step 2 in .* cannot be reached"):
        restore_latest(tmp_path, abstract(make_mesh()), metric="top1", say=pytest.fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
