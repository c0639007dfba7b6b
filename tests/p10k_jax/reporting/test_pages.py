"""The pages as a reader has them: figures, escaping, and what a real browser makes of them."""

import html.parser
import json
import re
import shutil
import urllib.parse

import numpy as np
import pyarrow as pa
import pytest
from axe_playwright_python.sync_playwright import Axe

from p10k_jax.config import as_plain, write_workdir
from p10k_jax.data.classes import Classes, write_classes
from p10k_jax.data.splits import open_split, split_labels
from p10k_jax.evaluation.figures import figures
from p10k_jax.evaluation.files import write_evaluation
from p10k_jax.evaluation.predictions import SCHEMA
from p10k_jax.evaluation.retrieval import retrieval_figures
from p10k_jax.facts import write_facts
from p10k_jax.reporting.ablation_page import ablation_page
from p10k_jax.reporting.gallery import choose, write_gallery
from p10k_jax.reporting.run_page import keep_run_page, write_run_page
from tests.browser import chromium, opened
from tests.runs import tiny_config
from tests.tables import table as rows_of
from tfds_builder.prepare import prepare

HOSTILE = "<img src=x onerror=alert(1)>\"'&<script>alert(2)</script>"
CLASSES = Classes(
    names=(HOSTILE, "Äpfel", "c", "d", "e", "f"),
    groups=np.array([0, 0, 0, 1, 1, 1], np.int32),
    group_names=(HOSTILE,) * 3 + ("g",) * 3,
    train_images=np.array([2, 4, 8, 16, 30, 60]),
)


@pytest.fixture(scope="module")
def workdir(tiny_data, tmp_path_factory):
    """A workdir as training and evaluation leave it, with names that try to break out."""
    folder = tmp_path_factory.mktemp("pages") / HOSTILE.replace("/", "∕")
    builder = prepare("drawn_catalogue", config="tiny", data_dir=tiny_data)
    test, train = open_split(builder, "test"), open_split(builder, "train")
    examples = [test.read(record) for record in range(len(test))]
    random = np.random.RandomState(0)
    ranked = np.stack([random.permutation(6)[:5] for _ in examples])
    scores = -np.sort(-random.dirichlet(np.ones(6), len(examples)), axis=1)[:, :5]
    rows = {
        "name": [f"{number:02d}{HOSTILE}.jpg" for number in range(len(examples))],
        "label": [example.label for example in examples],
        "group": [int(CLASSES.groups[example.label]) for example in examples],
        "usage": [example.usage for example in examples],
        "top5_labels": ranked.tolist(),
        "top5_scores": scores.tolist(),
    }
    table = pa.table(rows, schema=SCHEMA)
    config = as_plain(tiny_config(tiny_data))
    write_workdir(folder, config | {"model": config["model"] | {"num_classes": 6}}, config)
    write_classes(folder, CLASSES)
    write_facts(
        folder,
        {
            "command": f"python -m p10k_jax.train --workdir='{HOSTILE}'",
            "parameters": 21_600_000,
            "forward_flops": 12.6e9,
            "image_size": 32,
            "device": HOSTILE,
            "devices": 8,
            "hosts": 2,
            "versions": {"python": "3.11"},
        },
    )
    steps = [
        {
            "step": step,
            "seconds": 36.0 * step,
            "train/loss": 2 / step,
            "train/accuracy": 1 - 1 / step,
            "train/learning_rate": 1e-3 / step,
            "train/gradient_norm": 1.0,
            "train/images_per_second": 100.0 + step,
            "train/data_wait": 0.01,
        }
        for step in range(1, 101)
    ]
    accuracies = {25: 0.25, 50: 0.5, 75: 0.5, 100: 0.25}
    validations = [{"step": step, "validation/top1": top1, "validation/top5": 0.9} for step, top1 in accuracies.items()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps + validations))
    evaluated = folder / "eval" / "test"
    found = write_evaluation(evaluated, table, classes=CLASSES, step=100, image_size=32, crop=0.0)
    write_gallery(
        evaluated,
        choose(table, found["confusions"]),
        table,
        split=test,
        index=np.arange(len(test)),
        train=train,
        train_labels=split_labels(builder, train),
    )
    write_run_page(folder)
    return folder, table


class Reader(html.parser.HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for key, value in attributes if key in ("src", "href", "action", "srcset")]
        assert not any(key.startswith("on") for key, _ in attributes), attributes

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page.read_text())
    return reader


def test_names_are_shown_and_not_run(workdir):
    folder, _ = workdir
    reader = read(folder / "report.html")
    assert reader.tags.count("script") == 1
    text = "".join(reader.text)
    assert text.count(HOSTILE) > 20
    assert f"00{HOSTILE}.jpg" in text or f"01{HOSTILE}.jpg" in text


def test_no_address_leaves_the_file(workdir):
    reader = read(workdir[0] / "report.html")
    assert {address[:5] for address in reader.addresses} == {"data:", "#main"[:5], "#curv", "#spli", "#conf", "#run"}


def tiles(page_text):
    """The figures of the split's section, by what they are."""
    section = page_text[page_text.index('id="split-1"') :]
    found = re.findall(
        r'<span class="what">(.*?)</span><span class="figure">(.*?)</span>(?:<span class="note">(.*?)</span>)?', section
    )
    return {what: (figure, note) for what, figure, note in found}


def test_figures_are_those_of_the_table(workdir):
    folder, table = workdir
    expected = figures(table, CLASSES)
    shown = tiles((folder / "report.html").read_text())
    for key, what in (("top1", "top-1"), ("top5", "top-5"), ("mean_per_class", "mean per class")):
        low, high = expected["intervals"][key]
        assert shown[what] == (f"{100 * expected[key]:.2f} %", f"95 %: {100 * low:.2f} to {100 * high:.2f}")
    assert shown["calibration error"][0] == f"{100 * expected['ece']:.2f} %"
    assert shown["public top-1"][0] == f"{100 * expected['top1_public']:.2f} %"
    text = "".join(read(folder / "report.html").text)
    for name, band in expected["by_frequency"].items():
        assert f"{name}: " in text
        assert f"{band['classes']} classes" in text


def test_mistakes_and_confusions_are_those_of_the_table(workdir):
    folder, table = workdir
    text = (folder / "report.html").read_text()
    rows = {row["name"]: row for row in table.to_pylist()}
    surest = [row for row in rows.values() if row["top5_labels"][0] != row["label"]]
    surest.sort(key=lambda row: -row["top5_scores"][0])
    cards = re.findall(r'<article class="mistake".*?</article>', text, re.S)
    pairs = list(dict.fromkeys((row["label"], row["top5_labels"][0]) for row in surest))
    assert len(cards) == len(pairs)
    first = "".join(re.sub(r"<[^>]*>", " ", cards[0]).split())
    label, predicted = (CLASSES.names[number] for number in pairs[0])
    for part in (label, predicted, surest[0]["name"]):
        assert re.sub(r"\s", "", html_escaped(part)) in first
    counts = re.findall(r'<span class="badge">(\d+) of (\d+)</span>', text)
    expected = figures(table, CLASSES)["confusions"][:12]
    assert [(int(count), int(of)) for count, of in counts] == [(pair["count"], pair["of"]) for pair in expected]


def html_escaped(text):
    from markupsafe import escape

    return str(escape(text))


def test_headline(workdir):
    text = (workdir[0] / "report.html").read_text()
    assert '<span class="what">images a second</span><span class="figure">150</span>' in text  # the median
    assert '<span class="figure">1h00m</span>' in text
    assert '<span class="figure">21.6 M</span>' in text
    # Of equals the later, as the checkpoint that is kept.
    best = '<span class="what">best validation top-1</span><span class="figure">50.00 %</span>'
    assert f'{best}<span class="note">step 75</span>' in text


def test_a_workdir_that_was_only_trained(finished):
    text = (finished[0] / "report.html").read_text()
    for title in ("Training loss", "Validation accuracy", "Learning rate"):
        assert title in text
    assert "model.options.depth" in text, "what differs from the defaults"
    assert 'id="split-1"' not in text


def test_a_diverged_model_and_retrieval_without_answers(workdir, tmp_path):
    folder = tmp_path / "eval" / "test"
    shutil.copy(workdir[0] / "config.json", tmp_path)
    scores = [[np.nan, np.nan], [0.5, 0.5]]
    said = {"step": 100, "image_size": 32, "crop": 0.0}
    write_evaluation(folder, rows_of([0, 1], [[0, 1], [0, 1]], ["", ""], scores=scores), classes=None, **said)
    tops = {"knn": {"top1": 0.5, "k": 1}, "prototypes": {"top1": 0.5}, "fused": {"top1": 0.5, "k": 1, "weight": 0.5}}
    retrieval = retrieval_figures(np.array([0, 1]), np.array([[2], [2]]), np.array([0, 0]))
    (folder / "neighbours.json").write_text(json.dumps(said | tops | {"retrieval": {"gallery": retrieval}}))
    page = write_run_page(tmp_path).read_text()
    assert "nearest neighbours" in page
    assert "mAP@10" not in page
    assert "calibration error" not in page


def test_a_damaged_file_costs_the_page_and_not_the_run(workdir, tmp_path):
    copy = tmp_path / "workdir"
    shutil.copytree(workdir[0], copy)
    before = (copy / "report.html").read_bytes()
    (copy / "eval" / "test" / "predictions.parquet").write_bytes(b"torn")
    said = []
    keep_run_page(copy, said.append)
    assert len(said) == 1
    assert "report.html could not be made (ValueError" in said[0]
    assert (copy / "report.html").read_bytes() == before


def test_a_run_json_without_what_the_page_tells_is_named(workdir, tmp_path):
    shutil.copytree(workdir[0], tmp_path / "workdir")
    (tmp_path / "workdir" / "run.json").write_text(json.dumps({"device": "cpu"}))
    with pytest.raises(ValueError, match=r"report\.html cannot be made of what lies in the workdir .KeyError: '"):
        write_run_page(tmp_path / "workdir")


@pytest.fixture(scope="module")
def ablation(workdir, tmp_path_factory):
    """An ablation's page about runs that are there, that failed and that are pending."""
    folder = tmp_path_factory.mktemp("ablation")
    variants = []
    for number, name in enumerate(("base", HOSTILE.replace("/", "∕"), "worse")):
        runs = []
        for seed in (0, 1):
            run = folder / name / f"seed{seed}"
            run.mkdir(parents=True)
            (run / "report.html").write_text("a page")
            (run / "metrics.jsonl").write_text((workdir[0] / "metrics.jsonl").read_text())
            told = {"variant": name, "seed": seed, "workdir": str(run), "log": ""}
            if (number, seed) == (2, 1):
                runs.append(told | {"state": "failed", "message": HOSTILE})
                continue
            runs.append(
                told
                | {
                    "state": "finished",
                    "figures": {"top1": 0.5 + number / 10 + seed / 100, "top5": 0.9},
                    "settings": {"step": 100, "image_size": 32, "crop": 0.0},
                    "parameters": 1e6,
                    "gflops": 1.0 + number,
                    "images_per_second": 10.0,
                    "hours": 1.5,
                    "device": "cpu",
                }
            )
        tops = [run["figures"]["top1"] for run in runs if run["state"] == "finished"]
        mean = float(np.mean(tops))
        difference = {
            "value": mean - 0.505,
            "interval": [mean - 0.6, mean - 0.4],
            "p": 0.0004,
            "method": "seeds paired",
        }
        variants.append(
            {
                "name": name,
                "changes": [["head.name", "'linear'", repr(HOSTILE)]] if number else [],
                "runs": runs,
                "figures": {"top1": mean, "top5": 0.9, "gflops": 1.0 + number, "hours": 1.5},
                "top1_range": [min(tops), max(tops)],
                "top1_interval": [mean - 0.05, mean + 0.05],
                "difference": difference if number else None,
            }
        )
    unfinished = {"variant": "pending", "seed": 0, "workdir": str(folder / "pending"), "log": "", "state": "pending"}
    variants.append({"name": "pending", "changes": [], "runs": [unfinished], "figures": {}, "difference": None})
    summary = {"command": HOSTILE, "split": "test", "checkpoint": "best", "base": "base", "variants": variants}
    (folder / "ablation.html").write_text(ablation_page(folder, summary))
    return folder / "ablation.html"


def test_ablation(ablation):
    reader = read(ablation)
    text = "".join(reader.text)
    assert "5 of 7 runs finished" in text
    assert f"{HOSTILE.replace('/', '∕')}, seed 1" in text
    assert "60.50 %" in text
    assert "+10.00" in text
    assert "< 0.001" in text
    assert text.count(HOSTILE) >= 2, "the message of the failed run, the command"
    links = [address for address in reader.addresses if not address.startswith("#")]
    assert len(links) == 6
    assert all((ablation.parent / urllib.parse.unquote(link)).read_text() == "a page" for link in links)


def test_an_ablation_before_its_first_run(tmp_path):
    runs = [{"variant": "a", "seed": 0, "workdir": str(tmp_path), "log": "", "state": "pending"}]
    variants = [{"name": "a", "changes": [], "runs": runs, "figures": {}, "difference": None}]
    summary = {"command": "", "split": "test", "checkpoint": "best", "base": "a", "variants": variants}
    assert "0 of 1 runs finished" in ablation_page(tmp_path, summary)


def test_a_variant_stands_in_for_no_base_that_has_not_finished(tmp_path):
    told = {"variant": "b", "seed": 0, "workdir": str(tmp_path), "log": "", "state": "finished", "hours": None}
    run = told | {"figures": {"top1": 0.5}, "settings": {"step": 1}, "images_per_second": None}
    judged = {"figures": {"top1": 0.5}, "top1_range": [0.5, 0.5], "top1_interval": [0.4, 0.6], "difference": None}
    variants = [
        {"name": "a", "changes": [], "runs": [], "figures": {}, "difference": None},
        {"name": "b", "changes": [["seed", "0", "1"]], "runs": [run]} | judged,
    ]
    summary = {"command": "", "split": "test", "checkpoint": "best", "base": "a", "variants": variants}
    page = ablation_page(tmp_path, summary)
    assert "best test top-1" in page
    assert "the base" not in page
    assert 'class="reference"' not in page


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened_browser:
        yield opened_browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1240])
@pytest.mark.parametrize("kind", ["run", "ablation"])
def test_in_a_browser(browser, workdir, ablation, kind, width, dark):
    path = workdir[0] / "report.html" if kind == "run" else ablation
    page, seen = opened(browser, path, width=width, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the screen"
    assert page.evaluate("[...document.images].every(image => image.complete ? image.naturalWidth > 0 : true)")
    assert [url for url in seen.requests if not url.startswith("data:")] == [path.resolve().as_uri()]
    assert (seen.console, seen.errors, seen.dialogs) == ([], [], [])
    page, _ = opened(browser, path, width=width, dark=dark, inject=True)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_the_pointer_reads_values(browser, workdir):
    page, seen = opened(browser, workdir[0] / "report.html")
    chart = page.locator("figure.chart", has_text="Learning rate").locator("svg")
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 350 / 360, box["y"] + box["height"] / 2)
    reading = page.locator("figure.chart", has_text="Learning rate").locator(".reading")
    assert reading.inner_text().split() == ["100", "1e-5"]
    page.mouse.move(0, 0)
    assert reading.is_hidden()
    assert seen.errors == []


def test_a_click_sorts_the_table(browser, ablation):
    page, _ = opened(browser, ablation)
    names = page.locator("table.sortable tbody th")
    before = names.all_inner_texts()
    page.locator("table.sortable thead button", has_text="top-1").click()
    assert names.all_inner_texts() == before[::-1]
    assert page.locator("table.sortable th[aria-sort=descending]").inner_text().startswith("top-1")
    page.locator("table.sortable thead button", has_text="top-1").click()
    assert names.all_inner_texts() == before
