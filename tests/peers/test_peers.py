import re

import pytest

from tests.peers import input as input_peers
from tests.peers import step as step_peers
from tests.peers.loaders import BASELINE, LOADERS
from tests.peers.ratios import Spread, Timing, ratio, spread
from tests.peers.stepping import Speed
from tests.peers.timed import timed


def cells(table: str, name: str) -> list[str]:
    lines = table.replace("\\", "").splitlines()  # what would be Markdown is escaped
    [line] = [line for line in lines if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_ratios_are_of_the_same_round():
    # A machine that halves its speed in the second round changes both alike.
    assert ratio([400.0, 200.0, 600.0], [100.0, 50.0, 100.0]) == Spread(4.0, 4.0, 6.0)
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0], [1.0, 2.0])


def test_the_table_of_given_figures():
    ours, tf_data = "p10k_jax, originals", "tf.data, originals"
    timings = {
        BASELINE.name: [Timing(1000, 10, 20), Timing(500, 10, 10)],
        tf_data: [Timing(2000, 10, 20), Timing(800, 10, 10)],
        "p10k_jax, 256 px": [Timing(9000, 10, 20), Timing(5000, 10, 10)],
        ours: [Timing(3000, 10, 20), Timing(2000, 10, 10)],
    }
    table = input_peers.table(timings)
    assert cells(table, BASELINE.name)[1:] == ["75 (50-100)", "50 (50-50)", "1.00 (1.00-1.00)", "0.56 (0.50-0.62)"]
    assert cells(table, ours)[1:] == ["250 (200-300)", "175 (150-200)", "3.50 (3.00-4.00)", "2.00 (1.50-2.50)"]
    assert cells(table, "p10k_jax, 256 px")[3:] == ["9.50 (9.00-10.00)", ""]  # tf.data on those files was not measured


def test_each_pipeline_has_its_own_name_and_a_peer_on_the_same_files():
    assert len({loader.name for loader in LOADERS}) == len(LOADERS)
    for peer in ("timm", "tf.data", "DALI"):
        assert {one.files for one in LOADERS if one.name.startswith(peer)} == {one.files for one in LOADERS}


def test_warming_up_is_not_timed():
    clock = iter(range(1000)).__next__  # a second passes whenever it is asked
    timing = timed(iter(lambda: 64, None), 4, clock=lambda: float(clock()), processor_time=iter([10.0, 13.0]).__next__)
    assert timing == Timing(images=192, seconds=5.0, cpu_seconds=3.0)


def test_what_is_not_installed_is_named_with_the_way_to_get_it():
    absent = LOADERS[0]._replace(package="nowhere.to_be_found", requirement="nowhere")
    assert not input_peers.installed(absent.package)
    assert input_peers.missing([absent, absent]) == [
        "nowhere.to_be_found is not installed and left out: pip install nowhere"
    ]


@pytest.mark.parametrize(
    ("parse", "arguments", "message"),
    [
        (input_peers.parse, ["--scratch=S"], "--photos"),
        (input_peers.parse, ["--photos=R", "--scratch=S", "--rounds=0"], "--rounds=0 must be above 0"),
        (input_peers.parse, ["--photos=R", "--scratch=S", "--threads=100000"], "but there are"),
        (input_peers.parse, ["--photos=R", "--scratch=S", "--only=jpeg2000"], "known: timm, originals;"),
        (step_peers.parse, ["--steps=0"], "--steps=0 must be at least 1"),
        (step_peers.parse, ["--device=tpu"], "invalid choice"),
    ],
)
def test_wrong_flags_are_refused(parse, arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(arguments)
    assert re.search(re.escape(message), capsys.readouterr().err)


def test_the_table_of_steps():
    sides = {"p10k_jax": [Speed(300.0, 2 * 10**9, "gpu"), Speed(330.0, 3 * 10**9, "gpu")], "timm": []}
    sides["timm"] = [Speed(200.0, None, "gpu"), Speed(220.0, None, "gpu")]
    row = cells(step_peers.table({"resnet50": sides}), "resnet50")
    assert row[1:] == ["315.0 (300.0-330.0)", "210.0 (200.0-220.0)", "1.50 (1.50-1.50)", "3.00 GB", "not told"]
