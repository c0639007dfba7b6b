import pytest

from p10k_jax.planning.search import Trial, best, largest_batch


@pytest.mark.parametrize("largest", [8, 16, 24, 504, 512, 520, 1000, 4096])
@pytest.mark.parametrize("start", [8, 100, 512, 5000])
def test_finds_the_largest_multiple_that_fits(largest, start):
    tried = []

    def attempt(batch_size):
        tried.append(batch_size)
        return Trial(batch_size, 1000 + 7 * batch_size, 1000 + 7 * largest + 3)

    trials = largest_batch(attempt, start=start, unit=8, tries=30)
    assert best(trials).batch_size == largest
    assert all(size % 8 == 0 for size in tried)
    assert len(tried) == len(set(tried)) <= 13  # memory that grows evenly is found at once, after the doubling


def test_memory_that_does_not_grow_evenly_is_found_too():
    trials = largest_batch(lambda n: Trial(n, n * n, 300 * 300), start=64, unit=4, tries=30)
    assert best(trials).batch_size == 300


def test_a_limit_that_only_a_failure_tells():
    trials = largest_batch(lambda n: Trial(n, 10 * n, 5000 if n > 500 else 5300), start=64, unit=4, tries=30)
    assert best(trials).batch_size == 500
    trials = largest_batch(lambda n: Trial(n, 10 * n if n <= 500 else 9000, 6000), start=64, unit=4, tries=30)
    assert best(trials).batch_size == 500
    assert len(trials) < 20


def test_nothing_fits():
    trials = largest_batch(lambda n: Trial(n, n + 100, 50), start=32, unit=8)
    assert best(trials) is None
    assert [one.batch_size for one in trials] == [32, 16, 8]


def test_tries_are_bounded():
    assert len(largest_batch(lambda n: Trial(n, 0, 1), start=8, unit=8, tries=4)) == 4
