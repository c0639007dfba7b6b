"""Model cards: their front matter by PyYAML, their figures by the workdir's, whatever the names are."""

import json
import re

import pytest
import yaml

from p10k_jax.reporting.cards import CardFacts, model_card

NASTY = 'x: "y" | `z` <script>alert(1)</script> # [a](b) \n---\n\u2028\x07ü漢\udcff'


def facts(**changes):
    config = {
        "model": {"name": "vit-Ti/8", "weights": ""},
        "data": {"name": "sku_catalogue", "config": "original"},
    }
    settings = {
        "library": "jax",
        "config": config,
        "changes": [("seed", "0", "1"), ("loss.margin", "''", "'arcface'")],
        "num_classes": 6,
        "train_images": 1234,
        "step": 30,
        "usage": "```python\nrun()\n```",
        "notes": (),
    }
    return CardFacts(**settings | changes)


def parsed(card):
    _, header, body = card.split("---\n", 2)
    return yaml.safe_load(header), body


def write_figures(workdir, split, **figures):
    (workdir / "eval" / split).mkdir(parents=True)
    (workdir / "eval" / split / "metrics.json").write_text(json.dumps(figures))


def test_figures_of_this_checkpoint_are_the_hubs(tmp_path):
    more = {"count": 24, "top1_public": 0.25, "count_public": 8, "by_group": {"a": 1}, "crop": 0.0, "image_size": 32}
    write_figures(tmp_path, "test", top1=0.5, top5=float("nan"), step=30, **more)
    write_figures(tmp_path, "validation", top1=0.75, count=4, step=20)
    (tmp_path / "run.json").write_text(json.dumps({"parameters": 67_000, "forward_flops": 2e9, "image_size": 32}))
    header, body = parsed(model_card(tmp_path, facts()))
    assert header["library_name"] == "jax"
    assert header["pipeline_tag"] == "image-classification"
    assert header["datasets"] == ["sku_catalogue"]
    assert "license" not in header
    ((result,),) = [index["results"] for index in header["model-index"]]
    assert result["dataset"] == {
        "name": "sku_catalogue",
        "type": "sku_catalogue",
        "split": "test",
        "config": "original",
    }
    assert [(metric["name"], metric["value"]) for metric in result["metrics"]] == [("top1", 0.5), ("top1_public", 0.25)]
    assert "| `test` | 0.5000 of 24 | 0.2500 of 8 | 30 | `32` | `0.0` |" in body
    assert "| `validation` | 0.7500 of 4 |  | 20 (another checkpoint than this) |" in body
    assert "67,000 parameters, 2 GFLOPs an image of 32 pixels" in body
    assert "1,234 training pictures" in body
    assert "| `loss.margin` | `''` | `'arcface'` |" in body
    assert "## Terms" not in body


@pytest.mark.parametrize("seen", [{"flip": True}, {"image_size": [32, 40]}, {"crop": 0.5}])
def test_figures_that_the_export_alone_does_not_reach_are_not_the_hubs(tmp_path, seen):
    config = facts().config | {"eval": {"image_size": 32, "crop": 0.0}}
    write_figures(tmp_path, "validation", top1=0.5, step=30, image_size=32, crop=0.0)
    write_figures(tmp_path, "test", **({"top1": 0.75, "step": 30, "image_size": 32, "crop": 0.0} | seen))
    header, body = parsed(model_card(tmp_path, facts(config=config)))
    assert [result["dataset"]["split"] for result in header["model-index"][0]["results"]] == ["validation"]
    assert "| `test` | 0.7500" in body
    assert ("each also mirrored" in body) == ("flip" in seen)


def test_places_on_the_machine_are_not_told(tmp_path):
    config = {"model": {"name": "vit-S/16", "weights": "/home/me/w.npz"}, "data": {"name": "cars196", "config": ""}}
    changes = [
        ("data.data_dir", "None", "'/home/me/data'"),
        ("model.weights", "''", "'/home/me/w.npz'"),
        ("model.options.pool", "'absent'", "None"),
        ("model.options.width", "'absent'", "48"),
    ]
    card = model_card(tmp_path, facts(config=config, changes=changes))
    assert "/home/me" not in card
    assert "- started from: `w.npz`" in card
    assert "options.pool" not in card
    assert "| `model.options.width` | `'absent'` | `48` |" in card
    config["model"]["weights"] = "hf_hub:timm/vit_small"
    assert "- started from: `hf_hub:timm/vit_small`" in model_card(tmp_path, facts(config=config))


def test_nothing_breaks_markdown_or_yaml(tmp_path):
    config = {
        "model": {"name": NASTY, "weights": NASTY},
        "data": {"name": NASTY, "config": NASTY},
        "soup": {"method": NASTY, "of": [NASTY]},
    }
    write_figures(tmp_path, "test[:50%]|`x`", top1=0.5, step=30)
    card = model_card(tmp_path, facts(config=config, changes=[(NASTY, NASTY, "a|b")], notes=(NASTY,)))
    assert card.encode()  # no surrogate is left
    header, body = parsed(card)
    readable = NASTY.replace("\udcff", "")
    assert header["datasets"][0].startswith(readable.split("\u2028")[0])
    assert header["model-index"][0]["results"][0]["dataset"]["split"] == "test[:50%]|`x`"
    without_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", body.split("<!--", 1)[1].split("-->", 1)[1])
    assert not re.search(r"(?<!\\)[<\[#]script|(?<!\\)<", without_code)
    assert "\n---\n" not in body
    cells = [line for line in body.splitlines() if line.startswith("| ") and "arcface" not in line]
    for line in cells:
        assert len(re.findall(r"(?<!\\)\|", line)) in (4, 6), line


def test_terms_of_products10k_are_said(tmp_path):
    config = {"model": {"name": "vit-S/16", "weights": "w"}, "data": {"name": "products10k", "config": "256"}}
    card = model_card(tmp_path, facts(config=config, train_images=None))
    header, body = parsed(card)
    assert "model-index" not in header
    assert "None: the run was not evaluated" in body
    assert "non-commercial research and education only" in body


def test_damaged_figures_are_named(tmp_path):
    for text in ("{", "[]"):
        (tmp_path / "eval" / "test").mkdir(parents=True, exist_ok=True)
        (tmp_path / "eval" / "test" / "metrics.json").write_text(text)
        with pytest.raises(ValueError, match=r"eval/test/metrics\.json (is no JSON|holds no figures)"):
            model_card(tmp_path, facts())
