import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
import yaml

from tests.tfds_builder.raw_fixtures import encode, picture, small_raw, write
from tfds_builder import build, card
from tfds_builder.prepare import prepare

NASTY = "a|b`c <i>é #[x](y)"


def parsed(text):
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def test_the_card_of_a_build(tmp_path, capsys):
    raw = small_raw()
    odd = raw.train["2.jpg"]
    del raw.train["2.jpg"]
    name = f"{NASTY.replace('/', '')}.jpg"
    raw.train_csv = raw.train_csv.replace("2.jpg,0,0\n", f'"{name}",0,0\n', 1)
    raw.train[name], raw.train["3.jpg"] = encode(picture(0), "PNG"), b"nothing"
    assert odd
    folder, file = write(raw, tmp_path / "raw"), tmp_path / "cards" / "card.md"
    arguments = ["sku_catalogue", f"--manual_dir={folder}", f"--data_dir={tmp_path / 'data'}", f"--card={file}"]
    assert build.main([*arguments, "--no_progress", "--leave_out_unreadable"]) == 0
    builder = prepare("sku_catalogue", data_dir=tmp_path / "data")
    header, body = parsed(file.read_text(encoding="utf-8"))
    assert header["size_categories"] == ["n<1K"]
    assert header["task_categories"] == ["image-classification"]
    assert "license" not in header
    for split, count in builder.info.metadata["counts"].items():
        assert f"| `{split}` | {count:,} |" in body
        assert builder.info.metadata["content_fingerprint"][split] in body
    labels = np.load(f"{builder.data_dir}/labels.train.npy")
    each = np.bincount(labels)
    assert f"| `train` | {each.min()} |" in body
    assert f"| {each.max()} |" in body
    assert "- 4 classes (`label`)" in body
    assert "- 2 groups of classes (`group`)" in body
    assert r"| format is not JPEG | 1 | ``a\|b`c <i>é #[x](y).jpg`` |" in body
    assert "`3.jpg` of `train` was left out" in body
    assert builder.info.metadata["source_fingerprint"] in body
    file.unlink()
    assert build.main(arguments) == 0, "prepared already"
    assert file.exists()
    capsys.readouterr()
    assert build.main([*arguments[:-1], f"--card={tmp_path}"]) == 2
    assert "is a folder; give a file" in capsys.readouterr().err


def test_drawn_and_foreign_datasets(tiny_data, tmp_path):
    header, body = parsed(card.dataset_card(prepare("drawn_catalogue", config="tiny", data_dir=tiny_data)))
    assert header["pretty_name"].startswith("drawn_catalogue/tiny")
    assert "none shows a real product" in body
    assert "None: every picture is an upright RGB JPEG" in body
    with tfds.testing.mock_data(num_examples=3):
        body = parsed(card.dataset_card(tfds.builder("mnist", data_dir=tmp_path)))[1]
    assert "10 classes" in body
    assert "## Oddities" not in body


@pytest.mark.parametrize("text", ["plain", NASTY, "`", "``x", "a\n# b", "", "\udcff"])
def test_escapes(text):
    line = " ".join(text.split())
    assert "\n" not in card.escaped(text) + card.code(text)
    if "\udcff" not in text:
        assert re.sub(r"\\([^A-Za-z0-9 ])", r"\1", card.escaped(text)) == line
    span = card.code(text)
    fence = re.match("`*", span)[0]
    assert span.count(fence) >= 2 or not line
    assert not re.search(rf"(?<!`){fence}(?!`)", span[len(fence) : -len(fence)]) or not line
    assert yaml.safe_load(card.front_matter({"key": text}).split("---\n")[1])["key"] is not None
