import pickle
import stat
import struct
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.tfds_builder.raw_fixtures import write_zip
from tfds_builder import archives


def patch_directory(path, offset, value):
    """Overwrites bytes of the first central directory entry and, for flags, of the local header too."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + offset : entry + offset + len(value)] = value
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_back(tmp_path, method):
    members = {f"train/{i}.jpg": np.random.default_rng(i).bytes(3000) + bytes(500) for i in range(20)}
    source = archives.open_zip(write_zip(tmp_path / "a.zip", members, method))
    assert dict(zip(source.paths, source.sizes.tolist(), strict=True)) == dict.fromkeys(members, 3500)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(source.read, range(len(source.paths))))
    assert dict(zip(source.paths, read, strict=True)) == members
    again = pickle.loads(pickle.dumps(source))
    assert again.read(3) == members[source.paths[3]]


def test_archive_behind_other_bytes_is_read(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"1.jpg": b"abc"})
    path.write_bytes(b"some header" + path.read_bytes())
    assert archives.open_zip(path).read(0) == b"abc"


@pytest.mark.parametrize("name", ["../x.jpg", "train/../../x.jpg", "/etc/x.jpg", "..\\x.jpg", "C:\\x.jpg"])
def test_members_outside_are_refused(tmp_path, name):
    path = write_zip(tmp_path / "train.zip", {"1.jpg": b"abc", name: b"def"})
    with pytest.raises(archives.RawLayoutError, match=r"train\.zip: member .*x\.jpg' points outside .* publisher"):
        archives.open_zip(path)


def test_links_are_refused(tmp_path):
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("1.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(archives.RawLayoutError, match=r"'1\.jpg' is a symbolic link\. Pack the pictures"):
        archives.open_zip(path)


def test_encrypted_members_are_refused(tmp_path):
    path = write_zip(tmp_path / "train.zip", {"1.jpg": b"abc"})
    patch_directory(path, 8, struct.pack("<H", 1))
    with pytest.raises(archives.RawLayoutError, match=r"'1\.jpg' is encrypted\. Unpack it"):
        archives.open_zip(path)


def test_unknown_methods_are_refused(tmp_path):
    path = write_zip(tmp_path / "train.zip", {"1.jpg": b"abc" * 100}, zipfile.ZIP_BZIP2)
    with pytest.raises(archives.RawLayoutError, match=r"'1\.jpg' is packed by method 12; .* Pack it again"):
        archives.open_zip(path)


def test_doubled_members_are_refused(tmp_path):
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.jpg", b"a")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("1.jpg", b"b")
    with pytest.raises(archives.RawLayoutError, match=r"holds member '1\.jpg' twice"):
        archives.open_zip(path)


def test_a_cut_archive_is_named(tmp_path):
    path = write_zip(tmp_path / "train.zip", {f"{i}.jpg": bytes(1000) for i in range(9)})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(archives.RawLayoutError, match=r"train\.zip \(5,000 bytes\) is not a whole zip .* download"):
        archives.open_zip(path)


def test_absurd_ratio_is_refused(tmp_path):
    path = write_zip(tmp_path / "train.zip", {"bomb.jpg": bytes(4 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(archives.RawLayoutError, match=r"'bomb\.jpg' unpacks from .* to 4,194,304 bytes, more than 200"):
        archives.open_zip(path)


def test_absurd_sizes_are_refused(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "train.zip", {"1.jpg": bytes(600), "2.jpg": bytes(600)})
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 1000)
    with pytest.raises(archives.RawLayoutError, match="unpacks to 1,200 bytes; the limit is 1,000"):
        archives.open_zip(path)
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 500)
    with pytest.raises(
        archives.RawLayoutError, match=r"'1\.jpg' unpacks to 600 bytes; the limit for one picture is 500"
    ):
        archives.open_zip(path)


def test_overlapping_members_are_refused(tmp_path):
    path = write_zip(tmp_path / "train.zip", {"1.jpg": bytes(3000), "2.jpg": bytes(30)})
    patch_directory(path, 20, struct.pack("<II", 900_000, 900_000))  # sizes of the first member
    with pytest.raises(archives.RawLayoutError, match="members that overlap or lie behind its end"):
        archives.open_zip(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_named_when_read(tmp_path, method):
    content = np.random.default_rng(0).bytes(5000)
    path = write_zip(tmp_path / "train.zip", {"1.jpg": content, "2.jpg": content}, method)
    data = bytearray(path.read_bytes())
    data[2000] ^= 0xFF
    path.write_bytes(bytes(data))
    source = archives.open_zip(path)
    with pytest.raises(archives.DamagedMemberError, match=r"train\.zip, member 1\.jpg is damaged: .* Download"):
        source.read(0)
    assert source.read(1) == content


def test_a_member_never_unpacks_beyond_its_size(tmp_path):
    path = write_zip(tmp_path / "train.zip", {"1.jpg": bytes(500_000)}, zipfile.ZIP_DEFLATED)
    patch_directory(path, 24, struct.pack("<I", 1000))  # the directory claims 1000 bytes
    with pytest.raises(archives.DamagedMemberError, match="unpacks to 1001 bytes instead of 1000"):
        archives.open_zip(path).read(0)


def test_names_that_are_not_what_they_say_are_named(tmp_path):
    path = write_zip(tmp_path / "train.zip", {"é.jpg": b"abc"})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(archives.RawLayoutError, match=r"train\.zip .* is not a whole zip archive: .*utf-8"):
        archives.open_zip(path)


def test_a_name_of_nothing_is_passed_over(tmp_path):
    path = write_zip(tmp_path / "train.zip", {"1.jpg": b"abc", "2.jpg": b"abc"})
    path.write_bytes(path.read_bytes().replace(b"1.jpg", b"\0.jpg"))  # zipfile ends names at a zero byte
    assert archives.open_zip(path).paths == ("2.jpg",)


def test_names_without_end_are_refused(tmp_path):
    path = write_zip(tmp_path / "train.zip", {"a/" * 30_000 + "1.jpg": b"abc"})
    with pytest.raises(archives.RawLayoutError, match=r"name has 60,005 characters; the limit is 1,024"):
        archives.open_zip(path)


@pytest.mark.parametrize("field", ["size", "packed", "offset"])
def test_numbers_beyond_64_bits_are_refused(tmp_path, field):
    """In the extra field of zip64 stand 64 bits without a sign, for which NumPy's integers have no room."""
    extra = struct.pack("<HH3Q", 1, 24, *((2**64 - 2) if name == field else 3 for name in ("size", "packed", "offset")))
    central = struct.pack(
        "<4s6H3I5H2I", b"PK\x01\x02", 45, 45, 0, 0, 0, 33, 0, *[2**32 - 1] * 2, 5, 28, 0, 0, 0, 0, 2**32 - 1
    )
    directory = central + b"1.jpg" + extra
    path = tmp_path / "train.zip"
    path.write_bytes(bytes(60) + directory + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 60, 0))
    with pytest.raises(archives.RawLayoutError, match=r"unpacks to 18,446,744,073,709,551,614|overlap or lie behind"):
        archives.open_zip(path)


def test_a_stored_member_is_no_larger_than_it_says(tmp_path):
    path = write_zip(tmp_path / "train.zip", {"1.jpg": bytes(5000)})
    patch_directory(path, 24, struct.pack("<I", 10))
    with pytest.raises(archives.RawLayoutError, match=r"'1\.jpg' has 5,000 bytes, which unpack to 10; that cannot be"):
        archives.open_zip(path)


def test_a_member_at_the_very_end_is_damaged(tmp_path):
    path = write_zip(tmp_path / "train.zip", {"1.jpg": b""})
    size = path.stat().st_size
    patch_directory(path, 42, struct.pack("<I", size))
    path.write_bytes(path.read_bytes()[:-2] + struct.pack("<H", 10) + b"PK\x03\x04" + bytes(6))  # as its comment
    with pytest.raises(archives.DamagedMemberError, match="no member starts where the directory says"):
        archives.open_zip(path).read(0)


def test_links_that_lead_nowhere_are_passed_over(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"abc")
    (tmp_path / "2.jpg").symlink_to("2.jpg")
    (tmp_path / "3.jpg").symlink_to("nothing")
    assert archives.open_folder(tmp_path).paths == ("1.jpg",)


def test_folders_deeper_than_calls_are_listed(tmp_path):
    deep = tmp_path.joinpath(*["a"] * 250)
    deep.mkdir(parents=True)
    deep.joinpath("1.jpg").write_bytes(b"abc")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(240)
    try:
        (path,) = archives.open_folder(tmp_path).paths
    finally:
        sys.setrecursionlimit(limit)
    assert path.count("/") == 250


def test_a_file_in_a_folder_is_read_up_to_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 500)
    for count in (500, 501):
        (tmp_path / f"{count}.jpg").write_bytes(bytes(count))
    source = archives.open_folder(tmp_path)
    assert len(source.read(0)) == 500
    with pytest.raises(archives.DamagedMemberError, match=r"501\.jpg has more than 500 bytes"):
        source.read(1)


def test_folders_are_listed_without_clutter(tmp_path):
    for name in ("a/1.jpg", "a/.DS_Store", "__MACOSX/a/._1.jpg", "b/Thumbs.db", ".git/x", "b/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)  # a circle
    source = archives.open_folder(tmp_path)
    assert {"a/1.jpg", "b/2.jpg", "c/1.jpg"} <= set(source.paths)
    assert not any("DS_Store" in path or "Thumbs" in path or ".git" in path for path in source.paths)
    assert source.read(source.paths.index("a/1.jpg")) == b"12345"
    assert set(source.sizes.tolist()) == {5}
