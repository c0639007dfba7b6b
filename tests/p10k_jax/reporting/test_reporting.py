import fcntl
import io
import json
import os
import struct
import termios

import jax.numpy as jnp

from p10k_jax.reporting.meter import Meter
from p10k_jax.reporting.pace import Pace
from p10k_jax.reporting.progress import Console, duration_text, training_line
from p10k_jax.reporting.writers import MetricWriter, read_metrics


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_rows_are_written_and_a_resumed_run_drops_what_it_does_again(tmp_path):
    writer = MetricWriter(tmp_path, resumed_at=0)
    for step in (1, 2, 3):
        writer.write(step, {"train/loss": step / 3})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')  # a kill cut it short
    writer = MetricWriter(tmp_path, resumed_at=2)
    writer.write(3, {"train/loss": 7.0})
    writer.close()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["train/loss"]) for row in rows] == [(1, 1 / 3), (2, 2 / 3), (3, 7.0)]


def test_live_line_is_rewritten_on_a_terminal_and_rare_in_a_file():
    terminal = Terminal()
    console = Console(terminal)
    console.live("step 1 of many")
    console.live("step 2")
    console.say("saved")
    assert terminal.getvalue() == "step 1 of many\r" + " " * 14 + "\rstep 2\r" + " " * 6 + "\rsaved\n"
    file = io.StringIO()
    console = Console(file)
    for step in range(100):
        console.live(f"step {step}")
    console.live("the end", final=True)
    assert file.getvalue() == "step 0\nthe end\n"


def test_a_live_line_fits_the_terminal():
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        console = Console(terminal)
        console.live("a" * 100)
        console.live("b")
        console.say("c" * 100)
        expected = "a" * 39 + "\r" + " " * 39 + "\rb\r \r" + "c" * 100 + "\r\n"
        said = ""
        while len(said) < len(expected):  # a terminal may hand it over in parts
            said += os.read(ours, 1000).decode()
    os.close(ours)
    assert said == expected


def test_rows_that_are_none_are_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    odd = ["[1]", '{"step": "1"}', '{"loss": 1.0}', '{"step": 1, "loss": "low"}', "[" * 100_000, '{"step": 1', "\xff"]
    odd.append('{"step": 1, "loss": 1' + "0" * 400 + "}")
    path.write_bytes("\n".join([*odd, '{"step": 2, "loss": NaN}', ""]).encode("latin-1"))
    assert [row["step"] for row in read_metrics(path)] == [2]
    MetricWriter(tmp_path, resumed_at=9).close()
    assert path.read_text() == '{"step": 2, "loss": NaN}\n'


def test_training_line():
    figures = {"step": 7, "total_steps": 1000, "loss": 2.34567, "images_per_second": 1234.5, "data_wait": 0.021}
    line = training_line(**figures, seconds_left=754, last=0.41239, best=0.42)
    assert line == (
        "step    7/1000  loss 2.346  1,234 img/s  data wait 2%  12m34s left  validation top-1 0.4124 (best 0.4200)"
    )
    assert "  MFU 43%  data wait" in training_line(**figures, mfu=0.43, seconds_left=1, last=None, best=None)
    assert "validation" not in training_line(**figures, seconds_left=1, last=None, best=None)


def test_duration_text():
    assert [duration_text(s) for s in (-1, 59.4, 60, 3599, 3600, 90_000)] == [
        "0s",
        "59s",
        "1m00s",
        "59m59s",
        "1h00m",
        "25h00m",
    ]


def test_meter_reports_one_step_late_and_counts_only_real_waits(tmp_path):
    writer = MetricWriter(tmp_path, resumed_at=0)
    settings = {"pace": Pace(8), "resumed_at": 0, "total_steps": 3, "log_due": lambda step: step != 2}
    meter = Meter(Console(io.StringIO()), writer, **settings)
    written = []
    for step, loss in enumerate(meter.timed([3.0, 2.0, 1.0]), start=1):
        meter.step(step, {"loss": jnp.float32(loss)})
        written.append(len(read_metrics(tmp_path / "metrics.jsonl")))
    assert written == [0, 1, 1]
    meter.flush()
    meter.validated(3, "validation", {"top1": 0.5, "count": 4}, 0.6)
    writer.close()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row.get("train/loss") for row in rows] == [3.0, 1.0, None]
    assert rows[1]["train/images_per_second"] > 0
    assert 0 <= rows[1]["train/data_wait"] <= 1
    assert rows[2]["validation/top1"] == 0.5
    json.dumps(rows)
