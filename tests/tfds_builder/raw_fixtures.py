"""Small raw catalogues, drawn here, in every layout; tests change one thing at a time."""

import dataclasses
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

NUM_CLASSES, TRAIN_EACH, TEST_EACH = 4, 6, 2


def picture(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    """uint8[height, width, 3]: smooth colours."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: np.ndarray | Image.Image, image_format: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, image_format, **options)
    return buffer.getvalue()


@dataclasses.dataclass
class Raw:
    """Tables as text and pictures as bytes, not yet written."""

    train_csv: str
    test_csv: str
    train: dict[str, bytes]
    test: dict[str, bytes]
    classes_csv: str | None = None
    test_csv_name: str = "test_kaggletest.csv"

    def tables(self) -> dict[str, bytes]:
        found = {
            "train.csv": self.train_csv.encode(errors="surrogateescape"),
            self.test_csv_name: self.test_csv.encode(),
        }
        if self.classes_csv is not None:
            found["classes.csv"] = self.classes_csv.encode()
        return found


def small_raw(num_classes: int = NUM_CLASSES) -> Raw:
    """Classes 0..3 in groups 0, 0, 1, 1; 6 training and 2 test pictures each."""
    train, test, train_rows, test_rows = {}, {}, ["name,class,group"], ["name,class,Usage"]
    for label in range(num_classes):
        for index in range(TRAIN_EACH):
            name = f"{label * TRAIN_EACH + index + 1}.jpg"
            train[name] = encode(picture(label * 100 + index), quality=90)
            train_rows.append(f"{name},{label},{label // 2}")
        for index in range(TEST_EACH):
            name = f"{9000 + label * TEST_EACH + index}.jpg"
            test[name] = encode(picture(5000 + label * 100 + index), quality=90)
            test_rows.append(f"{name},{label},{'Public' if index == 0 else 'Private'}")
    return Raw("\n".join(train_rows) + "\n", "\n".join(test_rows) + "\n", train, test)


def write(raw: Raw, folder: Path, layout: str = "zips") -> Path:
    """Writes a catalogue: 'zips', 'root_zips', 'deflated', 'extracted', 'nested' or 'bundle'."""
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "bundle":
        members = {f"{split}/{split}/{name}": data for split in ("train", "test") for name, data in of(raw, split)}
        write_zip(folder / "products-10k.zip", {**raw.tables(), **members})
        return folder
    for name, data in raw.tables().items():
        (folder / name).write_bytes(data)
    for split in ("train", "test"):
        if layout in ("zips", "deflated", "root_zips"):
            prefix = "" if layout == "root_zips" else f"{split}/"
            method = zipfile.ZIP_DEFLATED if layout == "deflated" else zipfile.ZIP_STORED
            write_zip(folder / f"{split}.zip", {prefix + name: data for name, data in of(raw, split)}, method)
        else:
            inner = folder / split / split if layout == "nested" else folder / split
            inner.mkdir(parents=True)
            for name, data in of(raw, split):
                (inner / name).write_bytes(data)
    return folder


def of(raw: Raw, split: str) -> list[tuple[str, bytes]]:
    return list((raw.train if split == "train" else raw.test).items())


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_tree(folder: Path, classes: dict[str, int], seed: int = 0) -> Path:
    """A folder tree: class folder (may hold '/') -> number of pictures."""
    for number, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (folder / name / f"{index}.jpg").write_bytes(encode(picture(seed + 1000 * number + index)))
    return folder
