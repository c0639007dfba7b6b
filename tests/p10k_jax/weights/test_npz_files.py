"""Archives of strangers: numbers come out as NumPy put them in; all else is an error before memory is asked for."""

import io
import pickle
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest

from p10k_jax.weights.npz_files import open_npz


def read_all(path):
    with open_npz(path) as archive:
        shapes = archive.shapes(archive.names)
        return shapes, {name: archive.read(name) for name in archive.names}


def header(shape, kind="<f4", length=None):
    """The start of an `.npy` file that promises this."""
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    text = text.ljust((length or 118) - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def archive_of(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numbers_of_every_kind_become_float32(save, tmp_path):
    values = np.random.RandomState(0).standard_normal((3, 4, 5))
    kinds = {
        "double": values,
        "single": values.astype(np.float32),
        "half": values.astype(np.float16),
        "big_endian": values.astype(">f4"),
        "fortran": np.asfortranarray(values.astype(np.float32)),
        "bfloat16": values.astype(ml_dtypes.bfloat16),
        "scalar/of/count": np.int64(7),
        "empty": np.zeros((0, 3), np.float32),
    }
    save(tmp_path / "x.npz", **kinds)
    shapes, arrays = read_all(tmp_path / "x.npz")
    assert arrays.keys() == kinds.keys()
    for name, given in kinds.items():
        assert shapes[name] == np.shape(given)
        assert arrays[name].dtype == np.float32
        np.testing.assert_array_equal(arrays[name], np.asarray(given).astype(np.float32))


def test_a_large_array_is_read_in_pieces(tmp_path):
    values = np.random.RandomState(0).standard_normal(3_000_000).astype(np.float32)  # 12 MB, three pieces
    np.savez(tmp_path / "x.npz", values=values)
    np.testing.assert_array_equal(read_all(tmp_path / "x.npz")[1]["values"], values)


def test_what_asks_for_memory_that_the_file_does_not_hold_is_refused(tmp_path):
    bomb = io.BytesIO()
    np.save(bomb, np.zeros(32 << 20, np.uint8))
    cases = {
        "compressed": ({"a.npy": bomb.getvalue()}, zipfile.ZIP_DEFLATED, "claims to unpack to 33,554,432; weights do"),
        "promised": ({"a.npy": header((1 << 40,)) + bytes(64)}, zipfile.ZIP_STORED, "claims float32.*the file is dam"),
        "overflowing": ({"a.npy": header((1 << 40, 1 << 40))}, zipfile.ZIP_STORED, "claims float32"),
        "negative": ({"a.npy": header((-1, -16)) + bytes(64)}, zipfile.ZIP_STORED, "damaged"),
        "digits": ({"a.npy": header((int("1" * 4_000),), length=9_000)}, zipfile.ZIP_STORED, "damaged"),
        "more": ({"a.npy": header((4,)) + bytes(64)}, zipfile.ZIP_STORED, r"claims float32\[4\], 16 bytes, in a"),
        "header": (
            {"a.npy": b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little") + b" " * (1 << 24)},
            zipfile.ZIP_DEFLATED,
            "damaged or cut short",
        ),
    }
    del bomb
    paths = {name: archive_of(tmp_path / f"{name}.npz", *case[:2]) for name, case in cases.items()}
    tracemalloc.start()
    for name, path in paths.items():
        with pytest.raises(ValueError, match=cases[name][2]) as error:
            read_all(path)
        assert str(path) in str(error.value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle ran",))

    np.savez(tmp_path / "x.npz", trap=np.array([Trap()], object))
    with pytest.raises(ValueError, match=r"x\.npz: trap holds object, which are no weights; nothing is unpickled"):
        read_all(tmp_path / "x.npz")
    archive_of(tmp_path / "y.npz", {"trap.npy": pickle.dumps([1])})
    with pytest.raises(ValueError, match=r"y\.npz is damaged or cut short"):
        read_all(tmp_path / "y.npz")
    np.savez(tmp_path / "z.npz", words=np.array(["a"]))
    with pytest.raises(ValueError, match=r"words holds <U1, which are no weights"):
        read_all(tmp_path / "z.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_is_an_error_that_names_the_file(save, tmp_path):
    random = np.random.RandomState(0)
    save(tmp_path / "whole.npz", a=random.standard_normal((40, 40)), b=random.standard_normal(90).astype(np.float32))
    whole = (tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "x.npz"
    for length in (0, 3, 30, 1_000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"x\.npz is damaged or cut short"):
            read_all(path)
    survived = 0
    for _ in range(200):
        data = bytearray(whole)
        data[random.randint(len(data))] ^= 1 << random.randint(8)
        path.write_bytes(data)
        try:
            arrays = read_all(path)[1]
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:  # a time of change, say
            survived += 1
            assert {array.dtype for array in arrays.values()} <= {np.dtype(np.float32)}
    assert survived < 20


def test_two_arrays_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("a.npy", header((1,)) + bytes(4))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a.npy", header((1,)) + bytes(4))
    with pytest.raises(ValueError, match=r"x\.npz holds two arrays of one name"):
        read_all(tmp_path / "x.npz")
