import hashlib

import numpy as np

from tfds_builder import holdout


def test_the_rule_is_the_order_of_a_hash():
    names = [f"{i}.jpg" for i in range(40)]
    labels = np.arange(40) % 3
    taken = holdout.draw_holdout(names, labels, lambda count: 2, seed=7, purpose="validation")
    for label in range(3):
        of_class = [name for name, its in zip(names, labels, strict=True) if its == label]
        ranked = sorted(of_class, key=lambda name: hashlib.sha256(f"validation/7/{name}".encode()).hexdigest())
        assert {name for name, is_taken in zip(names, taken, strict=True) if is_taken} & set(of_class) == set(
            ranked[:2]
        )


def test_fixed_draw():
    # By hand: printf 'validation/0/%s' 4.jpg | sha256sum gives the smallest digest among 1.jpg to 6.jpg, 7.jpg among
    # 7.jpg to 12.jpg. This must never change, so that everyone has the same validation split.
    names = [f"{i}.jpg" for i in range(1, 13)]
    taken = holdout.draw_holdout(names, np.repeat([0, 1], 6), lambda count: 1, seed=0, purpose="validation")
    assert [names[row] for row in np.flatnonzero(taken)] == ["4.jpg", "7.jpg"]


def test_the_draw_ignores_order_and_other_classes():
    names = [f"{i}.jpg" for i in range(30)]
    labels = np.repeat([0, 1, 2], 10)
    first = holdout.draw_holdout(names, labels, lambda count: 3, seed=0, purpose="test")
    order = np.random.default_rng(0).permutation(30)
    shuffled = holdout.draw_holdout([names[i] for i in order], labels[order], lambda count: 3, seed=0, purpose="test")
    np.testing.assert_array_equal(shuffled, first[order])
    alone = holdout.draw_holdout(names[:10], labels[:10], lambda count: 3, seed=0, purpose="test")
    np.testing.assert_array_equal(alone, first[:10])


def test_seeds_and_purposes_differ():
    names = [f"{i}.jpg" for i in range(100)]
    labels = np.zeros(100, int)
    draws = {
        holdout.draw_holdout(names, labels, lambda count: 10, seed=seed, purpose=purpose).tobytes()
        for seed in (0, 1)
        for purpose in ("validation", "test")
    }
    assert len(draws) == 4
