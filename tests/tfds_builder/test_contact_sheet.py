"""The contact sheet, and that it reads what was drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from tfds_builder import contact_sheet
from tfds_builder.drawn_catalogue import plan as planning
from tfds_builder.drawn_catalogue import write


def jpeg(colour, size=(40, 40)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_stand_in_their_places_unstretched():
    rows = [
        contact_sheet.Row("Red", "two", "One", (jpeg((250, 0, 0)), jpeg((0, 250, 0), (80, 40)))),
        contact_sheet.Row("Blue", "one", "Two", (jpeg((0, 0, 250)),)),
    ]
    sheet = np.asarray(contact_sheet.draw_sheet(rows, "All of it", thumbnail=64)).astype(int)
    left = contact_sheet.MARGIN + contact_sheet.TITLE_WIDTH
    first = contact_sheet.MARGIN + 44 + 40
    second = first + 64 + contact_sheet.GAP + 40
    assert sheet[first + 32, left + 32].tolist() == [250, 0, 0]
    beside = left + 64 + contact_sheet.GAP
    assert sheet[first + 32, beside + 32].tolist() == [0, 250, 0]
    assert sheet[first + 4, beside + 32].tolist() == [255, 255, 255]  # 2:1 pictures are not stretched
    assert sheet[second + 32, left + 32].tolist() == [0, 0, 250]
    assert (np.abs(sheet[first : first + 64, : left - 8] - contact_sheet.GROUND).sum(axis=2) > 200).any()  # a title


def test_unreadable_pictures_do_not_stop_it():
    sheet = contact_sheet.draw_sheet([contact_sheet.Row("Odd", "", "", (b"no picture",))], "Odd", thumbnail=64)
    centre = contact_sheet.MARGIN + contact_sheet.TITLE_WIDTH + 5, contact_sheet.MARGIN + 44 + 40 + 5
    assert sheet.getpixel(centre) == (200, 200, 200)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet.draw_sheet([], "Nothing")
    with pytest.raises(ValueError, match="thumbnail=3"):
        contact_sheet.draw_sheet([contact_sheet.Row("a", "", "", ())], "Small", thumbnail=3)


def test_classes_of_a_group_stand_together_and_groups_are_spread():
    groups = np.repeat(np.arange(50), 10)
    chosen = contact_sheet.choose_classes(groups, 12)
    assert [int(groups[label]) for label in chosen] == [0] * 4 + [24] * 4 + [49] * 4
    assert sorted(contact_sheet.choose_classes(np.array([0, 1, 0, 1, 0]), 99)) == [0, 1, 2, 3, 4]
    assert len(contact_sheet.choose_classes(np.zeros(30, int), 20)) == 20


def test_command_line_on_a_drawn_catalogue(tmp_path, capsys):
    write.write_raw_catalogue(planning.PRESETS["tiny"], tmp_path / "raw", workers=1)
    flags = [f"--manual_dir={tmp_path / 'raw'}", "--rows=5", "--columns=3", "--thumbnail=48"]
    assert contact_sheet.main([*flags, f"--output={tmp_path / 'sheet.png'}"]) == 0
    assert "5 of 6 classes" in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 2 * contact_sheet.MARGIN + contact_sheet.TITLE_WIDTH + 3 * 56
    assert contact_sheet.main([*flags, f"--output={tmp_path / 'sheet.gif'}"]) == 2
    assert ".png or .jpg" in capsys.readouterr().err
    assert contact_sheet.main(["--manual_dir=/nowhere/at/all", f"--output={tmp_path / 'b.png'}"]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()
