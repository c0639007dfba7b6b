import pickle
import stat
import struct
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
