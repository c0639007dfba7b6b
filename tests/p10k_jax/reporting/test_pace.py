import time

import pytest

from p10k_jax.reporting.pace import Pace


def test_the_pace_is_that_of_the_window(monkeypatch):
    now = iter([0.0, 10.0, 14.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    pace = Pace(8, peak_flops=100.0)
    assert pace.figures() == {}
    pace.begin()  # at 10
    pace.work(2.5)
    for _ in range(5):
        pace.step_done()
    assert pace.figures() == {"images_per_second": 10.0, "data_wait": 0.0, "mfu": 0.25}


def test_without_a_known_peak_there_is_no_utilisation():
    pace = Pace(8)
    pace.work(2.5)
    pace.step_done()
    assert pace.figures().keys() == {"images_per_second", "data_wait"}


def test_only_waits_that_leave_the_device_idle_count():
    def slow():
        for number in range(3):
            time.sleep(0.05)
            yield number

    pace = Pace(1)
    for _ in pace.timed(slow(), idle=lambda: False):
        pace.step_done()
    assert pace.figures()["data_wait"] == 0
    pace.begin()
    for _ in pace.timed(slow(), idle=lambda: True):
        pace.step_done()
    assert pace.figures()["data_wait"] == pytest.approx(1, abs=0.1)
