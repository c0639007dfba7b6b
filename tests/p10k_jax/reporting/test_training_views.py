"""The picture of the training images is of what was trained on, found out by a model that keeps what it is given."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from p10k_jax.data.augment import Normalisation, denormalise, normalise, training_views
from p10k_jax.data.batches import Loading, global_batches
from p10k_jax.data.decode import DecodeReport
from p10k_jax.data.order import TrainingOrder
from p10k_jax.reporting.training_views import grid, seen_images, views_picture
from p10k_jax.training.losses import make_loss, make_objective
from p10k_jax.training.mesh import batch_sharding, make_mesh, replicated
from p10k_jax.training.step import make_train_step
from tests.fakes import memory_split

STATISTICS = Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
VIEWS = training_views(
    image_size=24, scale=(0.3, 1.0), ratio=(0.75, 1.33), flip=0.5, statistics=STATISTICS, jitter=(0.4, 0.4, 0.4)
)


def keep(params, batch_stats, images, *, train, key):
    """A model whose batch statistics are the images that it was given."""
    return SimpleNamespace(logits=images.mean((1, 2)) @ params["w"]), {"seen": images}


def test_picture_shows_what_the_step_has_seen():
    mesh = make_mesh(2, 2, 2)
    optimizer = optax.sgd(0.1)
    objective = make_objective(make_loss("softmax"), group_weight=0.0)
    settings = {"objective": objective, "views": VIEWS, "schedule": lambda step: 0.1, "ema_decay": 0.0}
    step = make_train_step(SimpleNamespace(apply=keep), optimizer, **settings)
    params = {"w": jnp.ones((3, 4))}
    state = {"step": 0, "params": params, "batch_stats": {"seen": jnp.zeros((24, 24, 24, 3))}}
    state |= {"opt_state": optimizer.init(params), "ema": {}, "key": jax.random.key_data(jax.random.key(7))}
    state = jax.device_put(jax.tree.map(jnp.asarray, state), replicated(mesh))
    batches = global_batches(
        memory_split(48),
        sharding=batch_sharding(mesh),
        batch_size=24,
        canvas_size=28,
        steps=range(2),
        loading=Loading(2),
        order=TrainingOrder(0, 48),
        report=DecodeReport(),
    )
    step = jax.jit(step, out_shardings=replicated(mesh))
    for number, batch in enumerate(batches):
        ours = seen_images(state["key"], number, batch.device, views=VIEWS, count=16)
        picture = views_picture(state["key"], number, batch.device, views=VIEWS, statistics=STATISTICS)
        wrong = seen_images(state["key"], number + 1, batch.device, views=VIEWS, count=16)
        state, _ = step(state, batch.device)
        theirs = np.asarray(state["batch_stats"]["seen"])[:16]
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
        assert np.abs(wrong - theirs).mean() > 0.1
        pixels = np.clip(255 * (theirs * np.array(STATISTICS.std) + np.array(STATISTICS.mean)), 0, 255)
        assert picture.shape == (4 * 24 + 3 * 2, 4 * 24 + 3 * 2, 3)
        for row in range(16):
            top, left = 26 * (row // 4), 26 * (row % 4)
            cell = picture[top : top + 24, left : left + 24].astype(int)
            assert np.abs(cell - pixels[row]).max() < 1.01


def test_a_process_shows_the_rows_that_it_holds():
    random = np.random.RandomState(0)
    images, aspects = random.randint(0, 256, (16, 28, 28, 3)).astype(np.uint8), np.full(16, 1.2, np.float32)
    key = jax.random.key_data(jax.random.key(3))

    class Part:
        """What a process sees of a global array of which it holds the rows 6 to 11, in no order and some twice."""

        def __init__(self, values):
            starts = (9, 6, 9)
            self.addressable_shards = [
                SimpleNamespace(index=(slice(start, start + 3),), data=values[start : start + 3]) for start in starts
            ]

        def __len__(self):
            return 16

    whole = {"image": jnp.asarray(images), "aspect": jnp.asarray(aspects)}
    everything = seen_images(key, 5, whole, views=VIEWS, count=16)
    part = {"image": Part(images), "aspect": Part(aspects)}
    np.testing.assert_allclose(seen_images(key, 5, part, views=VIEWS, count=5), everything[6:11], atol=1e-4)
    np.testing.assert_allclose(seen_images(key, 5, part, views=VIEWS, count=16), everything[6:12], atol=1e-4)


def test_denormalise_undoes_normalise():
    images = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1).repeat(3, axis=3)
    np.testing.assert_array_equal(denormalise(normalise(images, STATISTICS), STATISTICS), images.astype(np.uint8))
    outside = denormalise(jnp.array([[[-99.0, 0.0, 99.0]]]), STATISTICS)
    np.testing.assert_array_equal(outside, [[[0, 102, 255]]])


def test_grid_of_five():
    images = np.stack([np.full((4, 4, 3), value, np.uint8) for value in range(5)])
    out = grid(images)
    assert out.shape == (10, 16, 3)
    assert out[::6, ::6, 0].tolist() == [[0, 1, 2], [3, 4, 255]]
    assert (out[4:6] == 255).all()
    assert (out[:, 4:6] == 255).all()
