"""The demo's catalogue is fine-grained: pixels and a linear classifier do not solve it."""

import csv
import io
import warnings
import zipfile

import numpy as np
import pytest
import threadpoolctl
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tfds_builder.drawn_catalogue import plan as planning
from tfds_builder.drawn_catalogue import write


def small_pixels(folder, split, table):
    """float32[N, 3072] (whole pictures squashed to 32x32) and int64[N] classes."""
    with (folder / table).open(newline="") as file:
        rows = list(csv.DictReader(file))
    with zipfile.ZipFile(folder / f"{split}.zip") as archive:
        pictures = [Image.open(io.BytesIO(archive.read(f"{split}/{row['name']}"))) for row in rows]
        squashed = [np.asarray(picture.resize((32, 32), Image.Resampling.BOX)).ravel() for picture in pictures]
    return np.stack(squashed).astype(np.float32), np.array([int(row["class"]) for row in rows])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "raw"
    write.write_raw_catalogue(planning.PRESETS["demo"], folder)
    train, test = small_pixels(folder, "train", "train.csv"), small_pixels(folder, "test", "test_kaggletest.csv")
    scaler = StandardScaler().fit(train[0])
    return (scaler.transform(train[0]), train[1]), (scaler.transform(test[0]), test[1])


@pytest.mark.long
@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_logistic_regression_on_small_pixels_stays_under_030(demo, strength):
    (train, labels), (test, truth) = demo
    # One thread: the matrices are small, and tests run side by side.
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=60).fit(train, labels)
    top1 = (model.predict(test) == truth).mean()
    # Well above chance, so that the test would notice labels that do not belong to their pictures.
    assert 5 / planning.PRESETS["demo"].num_classes < top1 < 0.30
