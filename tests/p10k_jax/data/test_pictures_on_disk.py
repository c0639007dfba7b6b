import contextlib
import os

import numpy as np
import pytest

from p10k_jax.data.decode import decode_canvas
from p10k_jax.data.pictures_on_disk import Picture, find_pictures, read_picture, read_pictures
from p10k_jax.data.splits import open_split
from tests.fakes import picture
from tests.tfds_builder.raw_fixtures import small_raw, write
from tfds_builder.prepare import prepare


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.jpg", "a/2.PNG", "b/1.jpg", "b/deep/3.jpg", "b/notes.txt", "b/.git/4.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture(0))
    return tmp_path


def names(*paths, **settings):
    return [picture.name for picture in find_pictures(paths, **settings).pictures]


def test_names_are_relative_to_what_was_given_and_apart(folder):
    a, b = folder / "a", folder / "b"
    assert names(folder) == ["a/1.jpg", "a/2.PNG", "b/1.jpg", "b/deep/3.jpg"]
    assert names(a / "2.PNG", b / "deep") == ["2.PNG", "3.jpg"]
    assert names(a, b) == [f"{a}/1.jpg", "2.PNG", f"{b}/1.jpg", "deep/3.jpg"]
    assert names(a / "1.jpg", b / "1.jpg") == [f"{a}/1.jpg", f"{b}/1.jpg"]
    assert find_pictures([b]).passed_over == 1
    for twice in ([a, a], [a, a / "1.jpg"]):
        with pytest.raises(ValueError, match=r"a/1\.jpg' comes twice; give every path once"):
            find_pictures(twice)


@pytest.mark.parametrize("inner", ["", "test", "test/test"])
def test_a_lists_pictures_lie_beside_it_or_in_test(inner, tmp_path):
    (tmp_path / inner).mkdir(parents=True, exist_ok=True)
    (tmp_path / inner / "7.jpg").write_bytes(picture(7))
    (tmp_path / "list.CSV").write_bytes(b"\xef\xbb\xbfid,Name\r\n1, 7.jpg \r\n\r\n2,absent.jpg\r\n")
    (tmp_path / "elsewhere").mkdir()
    found = find_pictures([tmp_path / "list.CSV"]).pictures
    assert [picture.name for picture in found] == ["7.jpg", "absent.jpg"]
    assert [read_picture(each, canvas_size=8).error for each in found] == ["", "No such file or directory"]
    with pytest.raises(ValueError, match=r"none of its 2 pictures lies in .*elsewhere .*'7\.jpg'\); give their folder"):
        find_pictures([tmp_path / "list.CSV"], images_root=tmp_path / "elsewhere")


def test_a_name_that_no_file_can_have_is_one_unreadable_picture(tmp_path):
    (tmp_path / "7.jpg").write_bytes(picture(7))
    (tmp_path / "list.csv").write_text(f"name\n{'x' * 300}.jpg\n7.jpg\n")
    found = find_pictures([tmp_path / "list.csv"]).pictures
    assert [read_picture(each, canvas_size=8).error for each in found] == ["File name too long", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\n1\n", "has no column 'name'; its header is id"),
        ("", "has no column 'name'; its header is empty"),
        ("name\n", "has a header but no rows"),
        ("name\na.jpg\nb.jpg\na.jpg\n", r"row 4: the name 'a\.jpg' comes twice"),
        ("id,name\n1,\n", "row 2: the name '' is empty"),
        ("id,name\n1\n", "has 1 of 2 columns"),
        ("name\n\udcff.jpg\n", "is not UTF-8"),
    ],
)
def test_lists_that_are_none(text, message, tmp_path):
    (tmp_path / "list.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=message):
        find_pictures([tmp_path / "list.csv"])


def test_a_root_without_a_list_and_no_root(folder):
    with pytest.raises(ValueError, match="--images names no CSV; leave it out"):
        find_pictures([folder], images_root=folder)
    with pytest.raises(ValueError, match=r"1\.jpg is no folder"):
        find_pictures([folder], images_root=folder / "a" / "1.jpg")


def test_names_of_any_bytes_become_text(tmp_path):
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff\xc3\xbc.jpg", os.O_CREAT))
    assert names(tmp_path) == ["\\xffü.jpg"]


@contextlib.contextmanager
def nobody():
    """Not root, who may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_must_not_be_read_or_opened(folder):
    path = folder / "a" / "1.jpg"
    path.chmod(0)
    with nobody():
        locked = read_picture(Picture("1.jpg", (str(path),)), canvas_size=8)
    assert (locked.error, locked.aspect) == ("Permission denied", 1.0)
    assert (locked.canvas == 128).all()
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(2**30 + 1)  # takes no room
    assert "more than the limit" in read_picture(Picture("", (str(folder / "huge.jpg"),)), canvas_size=8).error
    assert "null" in read_picture(Picture("", ("a\0b",)), canvas_size=8).error


def test_pictures_come_in_order_with_a_bounded_number_ahead(folder, monkeypatch):
    from p10k_jax.data import pictures_on_disk

    begun = []

    def read(picture, **settings):
        begun.append(picture.name)
        return read_picture(picture, **settings)

    monkeypatch.setattr(pictures_on_disk, "read_picture", read)
    pictures = [Picture(str(number), (str(folder / "a" / "1.jpg"),)) for number in range(50)]
    given = read_pictures(pictures, canvas_size=8, shorter_side=0, threads=4, ahead=6)
    for number in range(3):
        next(given)
        assert len(begun) <= number + 1 + 6
    given.close()
    assert len(begun) <= 3 + 6
    assert len(list(read_pictures(pictures, canvas_size=8, shorter_side=0, threads=4, ahead=6))) == 50


def test_raw_pictures_are_reduced_as_the_builder_reduced_them(tmp_path):
    """The canvas of a raw file is that of the prepared record, to the last bit."""
    raw = small_raw()
    rng = np.random.default_rng(0)
    for name in list(raw.test)[:4]:
        raw.test[name] = picture(int(rng.integers(100)), height=150, width=90)
    write(raw, tmp_path / "raw", "extracted")
    builder = prepare(
        "sku_catalogue", config="32", data_dir=tmp_path / "data", manual_dir=tmp_path / "raw", progress=False
    )
    split = open_split(builder, "test")
    differs = 0
    for index in range(len(split)):
        example = split.read(index)
        canvas = np.zeros((24, 24, 3), np.uint8)
        aspect, _ = decode_canvas(example.image, canvas)
        raw_picture = Picture(example.name, (str(tmp_path / "raw" / "test" / example.name),))
        reduced = read_picture(raw_picture, canvas_size=24, shorter_side=32)
        np.testing.assert_array_equal(reduced.canvas, canvas)
        assert reduced.aspect == aspect
        differs += not np.array_equal(read_picture(raw_picture, canvas_size=24).canvas, canvas)
    assert differs >= 4
