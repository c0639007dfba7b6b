"""Predictions for pictures on disk: those of evaluation, from every source, in every format, whatever the files are."""

import csv
import io
import json
import os
import re
import zlib

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from p10k_jax.classifier import classifier_of_export
from p10k_jax.config import as_plain, write_workdir
from p10k_jax.data.classes import Classes, read_classes, write_classes
from p10k_jax.data.decode import GREY
from p10k_jax.data.splits import open_split
from p10k_jax.evaluate import plan as plan_evaluation
from p10k_jax.export import export_jax, export_timm
from p10k_jax.finished import open_run
from p10k_jax.predict import plan, predict, predicted_batches
from p10k_jax.reporting.progress import Console
from p10k_jax.train import plan as plan_training
from p10k_jax.training.checkpoint import Checkpoints
from p10k_jax.training.state import evaluation_weights
from tests.fakes import picture
from tests.runs import start, tiny_config
from tfds_builder.prepare import prepare

ODD_NAMES = ('a,"b".jpg', "line\nfeed\rreturn.jpg", "<b>&amp;.jpg", "ü 漢 \u2028.jpg")


@pytest.fixture(scope="module")
def raw(tiny_data, tmp_path_factory):
    """The test split's pictures as files, in the raw layout, with Kaggle's list of them."""
    folder = tmp_path_factory.mktemp("raw")
    split = open_split(prepare("drawn_catalogue", config="tiny", data_dir=tiny_data), "test")
    (folder / "test").mkdir()
    names = []
    for index in range(len(split)):
        example = split.read(index)
        (folder / "test" / example.name).write_bytes(example.image)
        names.append(example.name)
    (folder / "test.csv").write_text("name\n" + "".join(f"{name}\n" for name in names))
    return folder


@pytest.fixture(scope="module")
def expected(finished):
    """Evaluation's table of the test split, by name, in the catalogue's names."""
    return evaluated(finished[0])


def evaluated(workdir, **settings):
    evaluation = plan_evaluation(workdir, "test", "best", **settings)
    table, _ = evaluation.evaluator(*evaluation_weights(evaluation.load()))
    names = read_classes(workdir).names
    rows = table.to_pylist()
    return {row["name"]: ([names[label] for label in row["top5_labels"]], row["top5_scores"]) for row in rows}


def rows_of(images, **settings):
    """The rows by name, without a file."""
    planned = plan(images, submission=images[0].parent / "never written.csv", **settings)
    return {row.name: row for rows, _ in predicted_batches(planned) for row in rows}


def assert_same(rows, expected, tolerance):
    assert rows.keys() == expected.keys()
    for name, (labels, scores) in expected.items():
        assert (rows[name].top5_labels, rows[name].error) == (labels, "")
        np.testing.assert_allclose(rows[name].top5_scores, scores, rtol=0, atol=tolerance)


def test_rows_are_those_of_evaluation_on_any_number_of_devices(finished, raw, expected):
    assert len({tuple(labels) for labels, _ in expected.values()}) > 3, "the predictions must be able to differ"
    for devices, batch_size in ((None, None), (jax.devices()[:1], 7)):
        rows = rows_of([raw / "test"], workdir=finished[0], devices=devices, batch_size=batch_size)
        assert_same(rows, expected, 1e-6)


def test_another_size_and_crop_as_evaluation_takes_them(finished, raw):
    settings = {"image_size": 48, "crop": 0.5}
    rows = rows_of([raw / "test.csv"], workdir=finished[0], checkpoint="best", **settings)
    assert_same(rows, evaluated(finished[0], **settings), 1e-6)
    with pytest.raises(ValueError, match="Images of 33 x 33 pixels do not divide into patches of 8"):
        rows_of([raw / "test"], workdir=finished[0], image_size=33)


@pytest.mark.parametrize("export", [export_jax, export_timm])
def test_an_export_says_what_the_run_says(export, finished, raw, expected, tmp_path):
    export(open_run(finished[0]), tmp_path / "export")
    planned = plan([raw / "test"], export=tmp_path / "export", embeddings=True, output=tmp_path / "x.parquet")
    mine = plan([raw / "test"], workdir=finished[0], embeddings=True, output=tmp_path / "y.parquet")
    rows, same = ({row.name: row for rows, _ in predicted_batches(each) for row in rows} for each in (planned, mine))
    assert_same(rows, expected, 1e-5)
    for name, row in rows.items():
        np.testing.assert_allclose(row.embedding, same[name].embedding, rtol=0, atol=1e-4)
    config = json.loads((tmp_path / "export" / "preprocessing.json").read_text())
    assert {key: config[key] for key in ("image_size", "canvas_size", "crop", "pad", "shorter_side")} == {
        "image_size": 32,
        "canvas_size": 37,
        "crop": 0.0,
        "pad": False,
        "shorter_side": 0,
    }
    if export is export_timm:
        names = json.loads((tmp_path / "export" / "config.json").read_text())["label_names"]
        assert names == list(read_classes(finished[0]).names)


def untrained(config, workdir):
    """A finished run without the training: what a cosine head starts with tells pictures apart already."""
    planned = plan_training(config, workdir)
    write_workdir(workdir, as_plain(planned.config), planned.given)
    write_classes(workdir, planned.classes())
    checkpoints = Checkpoints(workdir / "checkpoints", metric="top1")
    checkpoints.save(planned.init(), step=0, metrics={"top1": 0.0})
    checkpoints.close()
    return open_run(workdir)


def test_padding_neck_and_a_wider_cosine_head_through_the_exports(tiny_data, raw, tmp_path):
    overrides = {"head.name": "cosine", "head.embedding_size": 16, "data.pad": True, "eval.crop": 0.9}
    overrides["model.num_classes"] = 16  # of which the catalogue has 6
    run = untrained(tiny_config(tiny_data, **overrides), tmp_path / "W")
    expected = evaluated(tmp_path / "W")
    assert_same(rows_of([raw / "test"], workdir=tmp_path / "W"), expected, 1e-6)
    export_jax(run, tmp_path / "jax")
    assert_same(rows_of([raw / "test"], export=tmp_path / "jax"), expected, 1e-5)
    export_timm(run, tmp_path / "timm")
    rows = rows_of([raw / "test"], export=tmp_path / "timm")
    assert {name: row.top5_labels for name, row in rows.items()} == {name: told[0] for name, told in expected.items()}
    notes = " ".join(classifier_of_export(tmp_path / "timm").notes)
    assert "their probabilities are not" in notes
    assert "the embedding is what stands before the neck" in notes


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A folder with good pictures of odd names, and with everything that is no picture."""
    folder = tmp_path_factory.mktemp("odd")
    for number, name in enumerate(ODD_NAMES):
        (folder / name).write_bytes(picture(number))
    good = picture(9, height=60)
    (folder / "below" / "deeper").mkdir(parents=True)
    (folder / "below" / "deeper" / "UPPER.JPEG").write_bytes(good)
    (folder / "torn.jpg").write_bytes(good[: len(good) * 2 // 3])
    png = io.BytesIO()
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (60, 60, 3), np.uint8)).save(png, "PNG")
    (folder / "torn.png").write_bytes(png.getvalue()[:2000])
    bomb = bytearray(png.getvalue())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (folder / "bomb.png").write_bytes(bomb)
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not a picture")
    (folder / "folder.jpg").mkdir()
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "notes.txt").write_text("passed over")
    (folder / ".hidden.jpg").write_bytes(good)
    return folder


REASONS = {
    "bomb.png": "announces too many pixels: Image size (3600000000 pixels)",
    "circle.jpg": "symbolic links",
    "empty.jpg": "the file is empty",
    "folder.jpg": "it is a folder",
    "gone.jpg": "No such file",
    "pipe.jpg": "no regular file",
    "text.jpg": "not a picture: 13 bytes that start with 6e 6f",
    "torn.png": "no decoder reads this png",
}


@pytest.fixture(scope="module")
def odd_tables(finished, odd, tmp_path_factory):
    """Folder with the odd pictures' table in all formats, and what was said."""
    folder, stream = tmp_path_factory.mktemp("tables"), io.StringIO()
    for ending in ("csv", "jsonl", "parquet"):
        output, submission = folder / f"out.{ending}", folder / "submission.csv"
        planned = plan(
            [odd], workdir=finished[0], output=output, submission=submission, embeddings=ending != "csv", batch_size=8
        )
        told = predict(planned, Console(stream))
    return folder, told, stream.getvalue()


def read_tables(folder):
    """The three tables read back by the standard library and by pyarrow: lists of dicts."""
    with (folder / "out.csv").open(newline="", encoding="utf-8") as file:
        from_csv = list(csv.DictReader(file, strict=True))
    for row in from_csv:
        row["top5_labels"], row["top5_scores"] = json.loads(row["top5_labels"]), json.loads(row["top5_scores"])
    from_jsonl = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    return from_csv, from_jsonl, pq.read_table(folder / "out.parquet").to_pylist()


def test_bad_pictures_are_rows_with_a_reason(odd_tables):
    folder, told, said = odd_tables
    names = [*ODD_NAMES, "below/deeper/UPPER.JPEG", "torn.jpg", *REASONS]
    assert (told.pictures, told.unreadable, told.torn) == (len(names), len(REASONS), 1)
    assert "14 pictures; 2 other files passed over" in said
    for table in read_tables(folder):
        assert [row["name"] for row in table] == sorted(names)
        for row in table:
            assert bool(row["error"]) == (row["name"] in REASONS)
            assert REASONS.get(row["name"], "") in row["error"]
            assert len(row["top5_labels"]) == len(row["top5_scores"]) == (0 if row["error"] else 5)
            assert row["top5_scores"] == sorted(row["top5_scores"], reverse=True)


def test_all_formats_hold_the_same(odd_tables, finished):
    folder, *_ = odd_tables
    tables = read_tables(folder)
    names = read_classes(finished[0]).names
    for rows in zip(*tables, strict=True):
        for key in ("name", "top5_labels", "top5_scores", "error"):
            assert rows[0][key] == rows[1][key] == rows[2][key]
        assert set(rows[0]["top5_labels"]) <= set(names)
        assert rows[1]["embedding"] == rows[2]["embedding"]
        assert (rows[2]["embedding"] is None) == bool(rows[0]["error"])
    schema = pq.read_schema(folder / "out.parquet")
    assert str(schema.field("embedding").type) == "fixed_size_list<element: float>[48]"
    assert schema.metadata[b"image_size"] == b"32"
    assert not list(folder.glob("*.incomplete"))


def test_a_submission_has_every_row_and_grey_for_the_unreadable(odd_tables, finished, tmp_path):
    folder, *_ = odd_tables
    with (folder / "submission.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    table = read_tables(folder)[0]
    assert [row["name"] for row in rows] == [row["name"] for row in table]
    Image.new("RGB", (50, 50), (GREY,) * 3).save(tmp_path / "grey.png")
    grey = rows_of([tmp_path / "grey.png"], workdir=finished[0])["grey.png"].top5_labels[0]
    for row, full in zip(rows, table, strict=True):
        assert row["class"] == (grey if full["error"] else full["top5_labels"][0])


def test_a_list_keeps_its_order_and_tells_what_is_missing(finished, raw, expected, tmp_path):
    names = sorted(expected, reverse=True)[:3]
    listed = [names[0], "absent.jpg", "../test.csv", names[1], "/etc/hostname", names[2]]
    (tmp_path / "list.csv").write_text(
        "id,name\r\n" + "".join(f'7,"{name}"\r\n' for name in listed), encoding="utf-8-sig"
    )
    submission = tmp_path / "submission.csv"
    planned = plan([tmp_path / "list.csv"], images_root=raw, workdir=finished[0], submission=submission)
    told = predict(planned, Console(io.StringIO()))
    assert (told.pictures, told.unreadable) == (6, 3)
    rows = list(csv.DictReader(io.StringIO(submission.read_text(encoding="utf-8"))))
    assert [row["name"] for row in rows] == listed
    for row in rows:
        if row["name"] in expected:
            assert row["class"] == expected[row["name"]][0][0]
    errors = {row.name: row.error for rows, _ in predicted_batches(planned) for row in rows if row.error}
    assert errors["absent.jpg"] == "No such file or directory"
    assert errors["../test.csv"] == errors["/etc/hostname"] == "the name leads out of the folder of pictures"


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_what_is_interrupted_leaves_what_was(ending, finished, raw, tmp_path, monkeypatch):
    (tmp_path / "submission.csv").write_text("as it was")
    planned = plan(
        [raw / "test"],
        workdir=finished[0],
        output=tmp_path / f"new.{ending}",
        submission=tmp_path / "submission.csv",
        batch_size=8,
    )
    steps = iter((planned.step, planned.step))

    def stops(*arguments):
        if (step := next(steps, None)) is None:
            raise StoppedError
        return step(*arguments)

    with pytest.raises(StoppedError):
        predict(planned._replace(step=stops), Console(io.StringIO()))
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]
    assert (tmp_path / "submission.csv").read_text() == "as it was"


def test_bad_requests_are_refused_before_anything_is_computed(finished, raw, tmp_path):
    workdir, pictures, out = finished[0], [raw / "test"], tmp_path / "x.csv"
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.txt").touch()
    (tmp_path / "list.csv").write_text("name\n1.jpg\n")
    for images, settings, message in (
        (pictures, {"output": out, "export": raw}, "give either --workdir"),
        (pictures, {"output": out, "workdir": None}, "give either --workdir"),
        (pictures, {}, "give --output, --submission or both"),
        (pictures, {"output": tmp_path / "x.txt"}, r"ends in '\.txt'; known: \.csv, \.parquet, \.jsonl"),
        (pictures, {"output": tmp_path / "folder.csv"}, "is a folder; give a file"),
        (pictures, {"submission": tmp_path / "folder.csv"}, "is a folder; give a file"),
        (pictures, {"output": tmp_path / "list.csv" / "x.csv"}, "is a file, not a folder"),
        (pictures, {"output": out, "submission": out}, "are the same file"),
        (pictures, {"output": out, "embeddings": True}, "a CSV holds no embeddings"),
        (pictures, {"submission": out, "embeddings": True}, "--embeddings go into --output"),
        (pictures, {"output": out, "checkpoint": "7"}, "give 'last', 'best' or one of the steps"),
        (pictures, {"output": out, "batch_size": 12}, "batch_size=12 does not divide over the 8 batch shards"),
        (pictures, {"output": out, "crop": 1.5}, r"crop=1\.5 is outside"),
        ([raw / "test.csv"], {"output": raw / "test.csv"}, "would be written over"),
        ([tmp_path / "absent"], {"output": out}, "there is no file or folder .*absent"),
        ([tmp_path / "none"], {"output": out}, r"no pictures in .*none; looked for \.jpg"),
        ([tmp_path / "list.csv"], {"output": out}, "none of its 1 pictures lies in .*give their folder as"),
        (pictures, {"output": out, "workdir": raw}, r"holds no config\.json"),
        (pictures, {"output": out, "workdir": None, "export": tmp_path / "absent"}, "is no folder"),
        (pictures, {"output": out, "workdir": None, "export": raw}, r"holds neither model\.jaxexport nor config\.json"),
        (pictures, {"output": out, "workdir": None, "export": raw, "checkpoint": "last"}, "an export holds one"),
    ):
        with pytest.raises(ValueError, match=message):
            plan(images, **{"workdir": workdir} | settings)
    assert not out.exists()


def test_damaged_exports_are_refused(finished, raw, tmp_path):
    run, out = open_run(finished[0]), {"output": tmp_path / "x.csv"}
    export_jax(run, tmp_path / "jax")
    with pytest.raises(ValueError, match="is a program for 32 pixels"):
        plan([raw / "test"], export=tmp_path / "jax", image_size=48, **out)
    program = tmp_path / "jax" / "model.jaxexport"
    program.write_bytes(program.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.jaxexport or weights\.safetensors is damaged"):
        plan([raw / "test"], export=tmp_path / "jax", **out)
    export_timm(run, tmp_path / "timm")
    config = tmp_path / "timm" / "config.json"
    told = json.loads(config.read_text())
    for change, message in (
        ({"num_classes": 7}, r"does not fit .*config\.json: head"),
        ({"model_args": told["model_args"] | {"act_layer2": "x"}}, r"model_args\.act_layer2='x' is none"),
        ({"model_args": None}, r"is not the config\.json of p10k_jax\.export"),
    ):
        config.write_text(json.dumps(told | change))
        with pytest.raises(ValueError, match=message):
            plan([raw / "test"], export=tmp_path / "timm", **out)
    (tmp_path / "timm" / "preprocessing.json").unlink()
    with pytest.raises(ValueError, match=r"holds no preprocessing\.json; is it a folder of p10k_jax\.export"):
        plan([raw / "test"], export=tmp_path / "timm", **out)


def test_labels_are_the_catalogues_names(finished, raw, tmp_path):
    """Names that every format must quote go through whole."""
    run = open_run(finished[0])
    export_jax(run, tmp_path / "export")
    odd = ('6" nail, zinc', "<script>", "ü,漢", "new\nline", "[]", "'")
    write_classes(tmp_path / "export", Classes(odd, np.zeros(6, np.int32), ("",) * 6, None))
    tables = {}
    for ending in ("csv", "jsonl", "parquet"):
        output = tmp_path / f"out.{ending}"
        predict(plan([raw / "test"], export=tmp_path / "export", output=output), Console(io.StringIO()))
    tables = read_tables(tmp_path)
    assert {label for row in tables[0] for label in row["top5_labels"]} == set(odd)
    for rows in zip(*tables, strict=True):
        assert rows[0]["top5_labels"] == rows[1]["top5_labels"] == rows[2]["top5_labels"]


def test_command_line(finished, raw, expected, tmp_path):
    arguments = [f"--workdir={finished[0]}", f"--images={raw / 'test'},{raw / 'test.csv'}"]
    for more, code, message in (
        ([f"--output={tmp_path / 'x.txt'}"], 2, "ends in '.txt'; known: .csv, .parquet, .jsonl."),
        ([f"--output={tmp_path / 'x.jsonl'}", "--embeddings"], 0, f"48 rows in {tmp_path / 'x.jsonl'}"),
    ):
        process = start("predict", [*arguments, *more])
        output, _ = process.communicate(timeout=300)
        assert (process.returncode, message in output) == (code, True), output
        assert "Traceback" not in output
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert {row["name"] for row in rows} == {f"{raw / where}/{n}" for n in expected for where in ("test", "test.csv")}
    for row in rows:
        labels, scores = expected[re.sub(r".*/", "", row["name"])]
        assert row["top5_labels"] == labels
        np.testing.assert_allclose(row["top5_scores"], scores, rtol=0, atol=1e-6)
