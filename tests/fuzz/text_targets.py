"""Targets of what is shown: pages, Markdown and terminals take names of strangers and stay what they are."""

import contextlib
import html.parser
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from configs import demo
from p10k_jax.config import as_plain, clear_errors
from p10k_jax.data.classes import Classes, write_classes
from p10k_jax.evaluation.figures import figures
from p10k_jax.evaluation.files import write_table
from p10k_jax.reporting.cards import CardFacts, model_card
from p10k_jax.reporting.gallery import SCHEMA as GALLERY
from p10k_jax.reporting.progress import Console
from p10k_jax.reporting.run_page import run_page
from p10k_jax.reporting.text_tables import aligned, markdown
from tests.fuzz.check import Target
from tests.tables import table
from tfds_builder.card import code, escaped

_TABLE = table([0, 1, 2, 0, 1, 2], [[1, 0], [1, 2], [0, 2], [0, 1], [2, 1], [2, 0]], [""] * 6, [0, 0, 1, 0, 0, 1])


class _Tags(html.parser.HTMLParser):
    """Tags with the names of their attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        addresses = [value for name, value in attributes if name in ("src", "href")]
        assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in addresses), addresses
        self.found.append((tag, [name for name, _ in attributes]))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment",))


def _page_of(texts: list[str], folder: Path) -> list[tuple]:
    """The tags of a run's page whose names are these four texts."""
    folder.mkdir()
    one, two, three, four = texts
    config = as_plain(demo.get_config())
    config["model"] |= {"name": one, "num_classes": 3}
    config["data"]["name"] = two
    (folder / "config.json").write_text(json.dumps(config | {"given": config}))
    told = {"command": three, "devices": 1, "hosts": 1, "device": four, "versions": {one: two}}
    (folder / "run.json").write_text(json.dumps(told))
    classes = Classes(("a" + one, "b" + two, "c" + three), np.array([0, 0, 1]), ("g" + four, "g" + four, "h"), None)
    write_classes(folder, classes)
    row = {"step": 1, "train/images_per_second": 5.0, "train/loss": 0.5, "validation/top1": 0.5}
    (folder / "metrics.jsonl").write_text(json.dumps(row))
    (folder / "eval" / "test").mkdir(parents=True)
    named = _TABLE.set_column(0, "name", pa.array([f"{number}{one}" for number in range(6)]))
    write_table(folder / "eval" / "test" / "predictions.parquet", named, {})
    found = {"step": 1} | figures(named, classes, resamples=2)
    (folder / "eval" / "test" / "metrics.json").write_text(json.dumps(found))
    pictures = pa.table({"role": ["mistake"], "name": [f"0{one}"], "label": [0], "jpeg": [b"\xff\xd8"]}, schema=GALLERY)
    write_table(folder / "eval" / "test" / "pictures.parquet", pictures, {})
    return _Tags(run_page(folder)).found


_PLAIN: list[list[tuple]] = []


def _page(data: bytes, folder: Path) -> None:
    """A run's page has the tags that it has with other names."""
    if not _PLAIN:
        _PLAIN.append(_page_of(["n", "n", "n", "n"], folder / "plain"))
    texts = data.decode("utf-8", "replace").split("\x1f", 3)
    texts = [f"n{text}" for text in texts + [""] * (4 - len(texts))]  # a name of nothing has no place on the page
    assert _page_of(texts, folder / "run") == _PLAIN[0]


def _terminal(data: bytes, folder: Path) -> None:
    """Lines, tables, cards and errors hold nothing that a terminal obeys and no row or cell too many."""
    text = data.decode("utf-8", "surrogateescape")
    shown = io.StringIO()
    console = Console(shown, alone=True)
    console.say(text)
    console.live(text, final=True)
    shown.write(aligned(["a", "b"], [[text, "1"], ["c", text]]))
    with contextlib.redirect_stderr(shown), contextlib.suppress(SystemExit), clear_errors():
        raise ValueError(f"{text!s} is none")
    obeyed = [character for character in shown.getvalue() if not (character.isprintable() or character in "\n\t \xa0")]
    assert all(_harmless(character) for character in obeyed), obeyed
    assert len(aligned(["a", "b"], [[text, "1"]]).split("\n")) == 2
    for made in (markdown(["a", "b"], [[text, "1"], ["c", text]]), markdown([text, "b"], [])):
        assert all(_cells(line) == 2 for line in made.split("\n")), made
    for made in (escaped(text), code(text)):
        assert len(made.splitlines()) <= 1
        assert not any(character in made for character in "\x1b\r\n\x9b")
    text = f"n{text}"  # no dataset whose terms are told
    facts = CardFacts("jax", _config(text), [(text, text, text)], 2, 5, 1, "usage", [text])
    card = model_card(folder, facts)
    card.encode()
    assert card.count("\n") == model_card(folder, facts._replace(config=_config("x"), notes=["x"])).count("\n")
    yaml.safe_load(card.split("---\n")[1])


def _harmless(character: str) -> bool:
    """Characters that Python does not call printable and no terminal obeys: spaces, unassigned and joining ones."""
    return character not in "\x7f" and ord(character) >= 0xA0 and not 0x202A <= ord(character) <= 0x202E


def _cells(line: str) -> int:
    plain = line.replace("\\\\", "").replace("\\|", "")
    return plain.count("|") - 1


def _config(text: str) -> dict:
    return {"model": {"name": text, "weights": text}, "data": {"name": text, "config": text}}


TARGETS = {
    "page": Target(_page, (ValueError,), most_bytes=256),
    "terminal": Target(_terminal, (ValueError,), most_bytes=512),
}
