import re
import subprocess
import sys
from pathlib import Path

import pytest

import tfds_builder
from tests.tfds_builder.raw_fixtures import encode, picture, small_raw, write, write_zip
from tfds_builder import build, processing


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = build.main([*arguments, "--no_progress"])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_summary(tmp_path, capsys):
    made = small_raw()
    made.train["2.jpg"] = encode(picture(0), "PNG")
    folder, out = write(made, tmp_path / "raw"), tmp_path / "out"
    status, text, errors = run(capsys, "sku_catalogue", f"--manual_dir={folder}", f"--data_dir={out}", "--workers=2")
    assert (status, errors) == (0, "")
    for line in (
        r"sku_catalogue/original/1\.0\.0",
        r"train +20 pictures",
        r"validation +4 pictures",
        r"test +8 pictures",
        r"test: 4 private, 4 public",
        r"in total +32 pictures",
        r"classes +4",
        r"groups +2",
        r"format is not JPEG +1  2\.jpg",
        r"train +[0-9a-f]{64}",
        r"raw files +[0-9a-f]{64}",
        rf"prepared in {re.escape(str(out))}/sku_catalogue/original/1\.0\.0",
        r"pictures a second, peak memory [0-9,]+ MB",
    ):
        assert re.search(line, text), line


def test_left_out_pictures_are_shown(tmp_path, capsys):
    made = small_raw()
    made.train["2.jpg"] = b"nothing"
    folder, out = write(made, tmp_path / "raw"), tmp_path / "out"
    flags = ("sku_catalogue", f"--manual_dir={folder}", f"--data_dir={out}")
    status, text, errors = run(capsys, *flags)
    assert (status, text) == (2, "")
    assert errors.startswith("error: 1 picture(s) cannot be read, and nothing was prepared:\n  train: 2.jpg: ")
    assert not out.exists()
    status, text, _ = run(capsys, *flags, "--leave_out_unreadable")
    assert status == 0
    assert re.search(r"unreadable +1  2\.jpg \(left out\)", text)


def cut_archive(folder: Path) -> None:
    path = folder / "test.zip"
    path.write_bytes(path.read_bytes()[:-300])


def change_table(old: str, new: str, table: str = "train.csv"):
    def change(folder: Path) -> None:
        text = (folder / table).read_text()
        assert old in text
        (folder / table).write_text(text.replace(old, new, 1))

    return change


def escape(folder: Path) -> None:
    write_zip(folder / "train.zip", {**{f"train/{n}": d for n, d in small_raw().train.items()}, "../../x.jpg": b"x"})


BAD_RAW = {
    "missing archive": (lambda folder: (folder / "train.zip").unlink(), r"neither train\.zip .*Put train\.zip"),
    "renamed archive": (
        lambda folder: (folder / "train.zip").rename(folder / "t.rar"),
        r"neither train\.zip .*Put train\.zip",
    ),
    "cut archive": (cut_archive, r"test\.zip .*not a whole zip archive.*download the file again"),
    "missing column": (change_table(",class,", ",label,"), r"no column 'class'.*Wanted: name,class,group"),
    "doubled name": (change_table("\n2.jpg", "\n1.jpg"), r"row 3: name '1\.jpg' is already in row 2.*take one row out"),
    "class out of range": (
        change_table("9000.jpg,0", "9000.jpg,77", "test_kaggletest.csv"),
        r"row 2: class 77 is out of range.*Add training pictures",
    ),
    "row without picture": (change_table("1.jpg", "x.jpg"), r"'x\.jpg' \(row 2\)\. Get the whole train\.zip"),
    "picture without row": (change_table("1.jpg,0,0\n", ""), r"1 pictures of train have no row: '1\.jpg'\. Add rows"),
    "class with two groups": (
        change_table("1.jpg,0,0", "1.jpg,0,1"),
        r"class 0 is in group 0, but in group 1 in row 2",
    ),
    "member outside": (escape, r"'\.\./\.\./x\.jpg' points outside.*get it from its publisher"),
}


@pytest.mark.parametrize("case", BAD_RAW)
def test_bad_input_is_one_message_and_nothing_is_written(tmp_path, capsys, case):
    change, message = BAD_RAW[case]
    folder, out = write(small_raw(), tmp_path / "raw"), tmp_path / "out"
    change(folder)
    before = sorted(path.name for path in folder.rglob("*"))
    status, text, errors = run(capsys, "sku_catalogue", f"--manual_dir={folder}", f"--data_dir={out}")
    assert (status, text) == (2, "")
    assert errors.startswith("error: ")
    assert "Traceback" not in errors
    assert re.search(message, errors), errors
    assert not out.exists()
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sku_catalogue", "--config=enormous"), r"error: unknown config 'enormous'; known: original, 256"),
        (("products10k",), r"error: products10k/original is not prepared in"),
        (("drawn_catalogue", "--config=classes4-groups9-train40-test8-side64-seed0"), r"num_groups=9 is out of range"),
    ],
)
def test_bad_arguments(tmp_path, capsys, arguments, message):
    status, _, errors = run(capsys, *arguments, f"--data_dir={tmp_path / 'out'}")
    assert status == 2
    assert re.search(message, errors)
    assert not (tmp_path / "out").exists()


def test_bad_flags_exit_with_2(capsys):
    for arguments in (["sku_catalogue", "--workers=0"], ["sku_catalogue", "--maunal_dir=x"], []):
        with pytest.raises(SystemExit) as stop:
            build.main(arguments)
        assert stop.value.code == 2
    assert "0 is not 1 or more" in capsys.readouterr().err


def test_stopping_leaves_nothing(tmp_path, capsys, monkeypatch):
    def stop(read, shorter_side):
        raise KeyboardInterrupt

    monkeypatch.setattr(processing, "process", stop)
    folder, out = write(small_raw(), tmp_path / "raw"), tmp_path / "out"
    status, _, errors = run(capsys, "sku_catalogue", f"--manual_dir={folder}", f"--data_dir={out}")
    assert (status, errors) == (130, "stopped; nothing is left of this build\n")
    assert not out.exists()


def test_as_a_program_with_a_progress_bar(tmp_path):
    folder, out = write(small_raw(), tmp_path / "raw"), tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "tfds_builder.build", "sku_catalogue", f"--manual_dir={folder}", f"--data_dir={out}"],
        capture_output=True,
        text=True,
        cwd=Path(tfds_builder.__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0
    assert "32/32" in done.stderr
    assert "img/s" in done.stderr
    assert done.stdout.startswith("sku_catalogue/original/1.0.0\n")
    assert "WARNING" not in done.stderr
