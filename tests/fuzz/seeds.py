"""Writes the seeds of the corpus: small whole inputs of every kind, all of them drawn here.

python -m tests.fuzz.seeds
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image

from p10k_jax.weights.state_dict import to_timm
from tests.fuzz.folders import pack
from tests.fuzz.weight_targets import TEMPLATE

CORPUS = Path(__file__).parent / "corpus"
Seeds = Mapping[str, bytes]


def picture(image_format: str, *, mode: str = "RGB", size: tuple[int, int] = (9, 7), **options) -> bytes:
    """A file of a few pixels."""
    values = np.random.default_rng(0).integers(0, 256, (3, 3, 4), dtype=np.uint8)
    drawn = Image.fromarray(values, "RGBA").resize(size).convert("RGB" if mode in ("CMYK", "P", "I;16") else mode)
    if mode == "I;16":
        drawn = Image.fromarray(np.arange(63, dtype=np.uint16).reshape(7, 9) * 1000)
    buffer = io.BytesIO()
    drawn.convert(mode).save(buffer, image_format, **options)
    return buffer.getvalue()


def archive(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


TRAIN, TEST = b"name,class,group\n1.png,0,0\n2.png,1,0\n", b"name,class,Usage\n8.png,0,Public\n9.png,1,Private\n"
CLASSES = b"class,class_name,group,group_name\n0,Tea,0,Drink\n1,Soap,1,Home\n"


def raw_catalogue() -> Seeds:
    small = picture("PNG", size=(3, 2))
    tables = {"train.csv": TRAIN, "test_kaggletest.csv": TEST}
    train, test = {"1.png": small, "2.png": small}, {"8.png": small, "9.png": small}
    return {
        "zips": pack(tables | {"train.zip": archive(train), "test.zip": archive(test, zipfile.ZIP_DEFLATED)}),
        "folders": pack(
            tables
            | {"classes.csv": CLASSES.replace(b"1,Home", b"0,")}
            | below("train/train", train)
            | below("test", test)
        ),
        "tree": pack({f"{kind}/{number}.png": small for kind in ("tea", "soap") for number in range(2)}),
        "tree_of_splits": pack({"train/tea/1.png": small, "test/tea/2.png": b"torn", "train/b/1.gif": b"GIF89a"}),
        "no_table": pack(below("train", train) | {"test.csv": TEST}),
        "bundle": pack({"x.zip": archive(tables | below("train", train) | below("test", test))}),
    }


def below(folder: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": data for name, data in files.items()}


def raw_archive() -> Seeds:
    small = picture("PNG", size=(3, 2))
    tree = {"tea/1.png": small, "tea/2.png": small, "soap/3.png": small}
    return {
        "stored": archive(tree),
        "deflated": archive(tree, zipfile.ZIP_DEFLATED),
        "folders": archive({"a/": b"", "train/tea/é.png": small, "test/tea/2.png": small, "__MACOSX/x": b"y"}),
        "bzip2": archive({"1.png": small}, zipfile.ZIP_BZIP2),
        "empty": archive({}),
    }


def raw_tables() -> Seeds:
    return {
        "three": pack({"train.csv": TRAIN, "test.csv": TEST, "classes.csv": CLASSES.replace(b"1,Home", b"0,Drink")}),
        "two": pack({"train.csv": b"\xef\xbb\xbfname,class\r\n1.png,0\r\n", "test.csv": b'class,name\n0,"a ""b"""\n'}),
        "ids": pack({"train.csv": TRAIN.replace(b"1,0", b"7,0"), "test.csv": TEST}),
        "folders": pack({"folders": b"Soap\nTea\nTea", "classes.csv": CLASSES}),
    }


def pictures() -> Seeds:
    return {
        "jpeg": picture("JPEG", quality=50),
        "progressive": picture("JPEG", progressive=True, quality=50),
        "rotated": picture(
            "JPEG", quality=50, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        ),
        "grey": picture("JPEG", mode="L"),
        "cmyk": picture("JPEG", mode="CMYK", quality=50),
        "torn": picture("JPEG", size=(40, 40), quality=50)[:-60],
        "png": picture("PNG"),
        "half": picture("PNG")[:100],
        "alpha": picture("PNG", mode="RGBA"),
        "palette": picture("PNG", mode="P", transparency=0),
        "deep": picture("PNG", mode="I;16"),
        "gif": picture("GIF", mode="P"),
        "bmp": picture("BMP"),
        "tiff": picture("TIFF", compression="tiff_lzw"),
        "webp": picture("WEBP", lossless=True),
        "ppm": picture("PPM", size=(3, 2)),
        "avif": picture("AVIF", quality=30),
    }


def picture_lists() -> Seeds:
    small = picture("PNG", size=(3, 2))
    return {
        "nothing": pack({"note.txt": b""}),
        "folder": pack({"a/1.png": small, "b.jpg/1.jpg": b"torn", "note.txt": b"", ".hidden.png": small}),
        "table": pack({"list.csv": b'name\n1.png\n../outside.jpg\n/etc/1.png\n"a,b.png"\n', "1.png": small}),
    }


def state_dict() -> dict[str, np.ndarray]:
    return {name: np.full(value.shape, 0.5, np.float32) for name, value in to_timm(TEMPLATE["params"]).items()}


def safetensors_files() -> Seeds:
    tensors = state_dict()
    config = {"architecture": "x", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 8, 8]}}
    larger = tensors | {"pos_embed": np.zeros((1, 10, 4), np.float32), "extra.x": np.zeros(2, np.float16)}
    dinov2 = tensors | {
        "register_tokens": np.zeros((1, 1, 4), np.float32),
        "cls_token": np.zeros((1, 1, 4), np.float32),
    }
    torchvision = {
        "class_token": np.zeros((1, 1, 4), np.float32),
        "conv_proj.weight": np.zeros((4, 3, 2, 2), np.float32),
        "encoder.pos_embedding": np.zeros((1, 5, 4), np.float32),
    }
    return {
        "file": safetensors.numpy.save(tensors),
        "folder": pack(
            {"model.safetensors": safetensors.numpy.save(larger), "config.json": json.dumps(config).encode()}
        ),
        "dinov2": safetensors.numpy.save(dinov2),
        "torchvision": safetensors.numpy.save(torchvision),
        "header": b'\x0a\0\0\0\0\0\0\0{"a":null}',
    }


def npz() -> Seeds:
    def saved(arrays: Mapping[str, np.ndarray], save: Callable = np.savez) -> bytes:
        buffer = io.BytesIO()
        save(buffer, **arrays)
        return buffer.getvalue()

    vit = {
        "embedding/kernel": np.zeros((2, 2, 3, 4), np.float32),
        "embedding/bias": np.zeros(4, np.float16),
        "cls": np.zeros((1, 1, 4), np.float32),
        "Transformer/posembed_input/pos_embedding": np.zeros((1, 5, 4), np.float32),
        "Transformer/encoder_norm/scale": np.zeros(4, np.float64),
        "Transformer/encoder_norm/bias": np.asfortranarray(np.zeros(4, np.int32)),
        "head/kernel": np.zeros((4, 3), np.float32),
        "head/bias": np.zeros(3, np.float32),
    }
    blocks = {
        f"Transformer/encoderblock/MultiHeadDotProductAttention_0/{name}/kernel": np.zeros((1, 4, 2, 2), np.float32)
        for name in ("query", "key", "value", "out")
    }
    big_vision = {f"params/img/{k}": v for k, v in (vit | blocks).items() if "posembed" not in k} | {
        "params/img/pos_embedding": np.zeros((1, 4, 4), np.float32),
        "params/img/MAPHead_0/probe": np.zeros((1, 1, 4), np.float32),
        "params/txt/x": np.zeros(1, np.float32),
    }
    bit = {
        "resnet/root_block/standardized_conv2d/kernel": np.zeros((1, 1, 3, 2), np.float32),
        "resnet/block1/unit01/a/group_norm/gamma": np.zeros((1, 1, 1, 2), np.float32),
        "resnet/head/conv2d/kernel": np.zeros((1, 1, 2, 3), np.float32),
    }
    return {
        "vit": saved(vit, np.savez_compressed),
        "big_vision": saved(big_vision, np.savez_compressed),
        "bit": saved(bit),
        "objects": saved({"embedding/kernel": np.array([None]), "Transformer/encoder_norm/scale": np.zeros(1)}),
    }


SEEDS: dict[str, Callable[[], Seeds]] = {
    "raw_catalogue": raw_catalogue,
    "raw_archive": raw_archive,
    "raw_tables": raw_tables,
    "pictures": pictures,
    "picture_lists": picture_lists,
    "safetensors": safetensors_files,
    "npz": npz,
}


def main(targets: Iterable[str] = SEEDS) -> None:
    """Writes `corpus/TARGET/seed_NAME`."""
    for target in targets:
        for name, data in SEEDS[target]().items():
            path = CORPUS / target / f"seed_{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    main()
