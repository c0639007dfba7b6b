import json

import pytest

from p10k_jax.data.view_settings import FILE, Preprocessing, ViewSettings, read_preprocessing_file, write_preprocessing

VIEWS = ViewSettings(224, 256, 0.9, True, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 384)


def test_file_round_trip(tmp_path):
    told = Preprocessing(VIEWS, "bfloat16", ("a note",))
    write_preprocessing(tmp_path, told)
    assert read_preprocessing_file(tmp_path) == told


def test_another_size_widens_the_canvas_as_evaluation_does():
    assert VIEWS.at(None, None) == VIEWS
    assert VIEWS.at(448, 0.0)[:3] == (448, 512, 0.0)
    assert VIEWS.at(112, None)[:3] == (112, 256, 0.9)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 0),
        ("image_size", 10**9),
        ("canvas_size", "256"),
        ("crop", 1.5),
        ("crop", float("nan")),
        ("pad", 1),
        ("mean", [0.5, 0.5]),
        ("std", [0.5, 0.5, 0.0]),
        ("shorter_side", None),
        ("dtype", "float8"),
        ("notes", "text"),
    ],
)
def test_values_out_of_range_are_named(key, value, tmp_path):
    write_preprocessing(tmp_path, Preprocessing(VIEWS, "float32", ()))
    told = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(told | {key: value}))
    with pytest.raises(ValueError, match=rf"preprocessing\.json: {key}=.*; export anew"):
        read_preprocessing_file(tmp_path)


def test_what_is_no_such_file(tmp_path):
    with pytest.raises(ValueError, match=r"holds no preprocessing\.json"):
        read_preprocessing_file(tmp_path)
    for text, message in (("{", "is no JSON"), ("[]", "an object is needed")):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(ValueError, match=message):
            read_preprocessing_file(tmp_path)
