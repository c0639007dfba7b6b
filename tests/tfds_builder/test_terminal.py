import unicodedata

import pytest

from tfds_builder.terminal import one_line, printable


def test_what_a_terminal_obeys_is_shown_instead():
    assert printable("a\x1b[2Jb\rc\x9b31m\x07") == r"a\x1b[2Jb\rc\x9b31m\x07"
    assert printable("jpg.\u202egnp\u2066") == r"jpg.\u202egnp\u2066"
    assert printable("\udcff") == r"\udcff"


@pytest.mark.parametrize("text", ["", "Öl, 日本茶 😀", "two\nlines\tand a tab", "\\x1b"])
def test_other_text_stays(text):
    assert printable(text) == text


def test_nothing_obeyed_is_left():
    shown = printable("".join(map(chr, range(0x3000))))
    assert {character for character in shown if unicodedata.category(character) == "Cc"} == {"\n", "\t"}


def test_a_cell_is_one_line():
    assert one_line("a\r\nb\tc\u2028\x1b") == r"a b c\u2028\x1b"
