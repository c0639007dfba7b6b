"""Writes the seeds of the corpus: small whole inputs of every kind, all of them drawn here.

python -m tests.fuzz.seeds
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import jax.export
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from PIL import Image

from configs import demo
from p10k_jax.config import as_plain
from p10k_jax.data.decoded import SCHEMA as DECODED
from p10k_jax.evaluation.predictions import SCHEMA
from p10k_jax.models import create
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


def settings() -> Seeds:
    return {
        "plain": b"vit\n--config.batch_size=64\n--config.optimizer.learning_rate=3e-4",
        "argument": b"vit:variant=Ti/16\n--config.duration.steps=10\n--config.model.options.depth=2",
        "tuple": b"demo\n--config.data.mean=(0.5, 0.5, 0.5)\n--config.log.trackers=('wandb',)\n--config.head.bnneck",
        "unknown": b"resnet:depth=50\n--config.optimiser.rate=1",
    }


def small_config() -> dict:
    config = as_plain(demo.get_config())
    config["model"] |= {"num_classes": 3, "num_groups": 1, "padded_classes": 3}
    config["model"]["options"] |= {"depth": 1, "width": 8, "heads": 2}
    config["eval"] |= {"image_size": 16, "crop": 0.0}
    config["model"]["dtype"] = "float32"
    config["data"] |= {"image_size": 16, "canvas_size": 18, "mean": [0.5] * 3, "std": [0.5] * 3}
    return config


CLASSES_CSV = b'label,name,group,group_name,train_images\n0,tea,0,drink,9\n1,soap,1,home,5\n2,"a,b",1,home,0\n'


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def workdir() -> Seeds:
    config = small_config()
    figures = {"time": 1.5, "seconds": 4.5, "train/loss": 0.5, "test/top1": 0.5}
    files = {
        "config.json": compact(config | {"given": as_plain(demo.get_config())}),
        "run.json": compact({"command": "python -m p10k_jax.train", "parameters": 5, "total_steps": 30}),
        "classes.csv": CLASSES_CSV,
        "metrics.jsonl": b"\n".join(compact({"step": step} | figures) for step in (9, 30)) + b"\n{",
        "eval/test/metrics.json": compact({"step": 30, "count": 2, "top1": 0.5}),
    }
    few = {part: config[part] for part in ("model", "head", "data", "eval")}
    return {
        "whole": pack(files),
        "few": pack(files | {"config.json": compact(few)}),
        "none": pack({"config.json": b"[1]", "metrics.jsonl": b"{}"}),
    }


def parquet(columns: Mapping[str, list], schema: pa.Schema, **how) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer, **how)
    return buffer.getvalue()


def decoded() -> Seeds:
    images = io.BytesIO()
    np.save(images, np.zeros((2, 2, 2, 3), np.uint8))
    columns = {"aspect": [1.0, 0.5], "label": [0, 1], "group": [0, 0], "rung": [0, 4]}
    columns |= {"name": ["1", "é"], "usage": ["", ""]}
    files = {"images.npy": images.getvalue(), "columns.parquet": parquet(columns, DECODED, store_schema=False)}
    about = {"format": 2, "examples": 2, "canvas_size": 2, "bytes": {name: len(data) for name, data in files.items()}}
    files["about.json"] = compact(about)
    return {
        "whole": pack(files),
        "torn": pack(files | {"images.npy": images.getvalue()[:-3]}),
        "none": pack({"about.json": b"{}"}),
    }


def predictions() -> Seeds:
    columns = {"name": ["1", "2"], "label": [0, 1], "group": [0, 0], "usage": ["public", "private"]}
    columns |= {"top5_labels": [[0, 1], [0, 1]], "top5_scores": [[0.75, 0.25], [0.5, 0.5]]}
    table = parquet(columns, SCHEMA, store_schema=False)
    other = parquet(columns | {"label": [1, 1]}, SCHEMA, store_schema=False)
    schema = pa.schema({"name": pa.string(), "embedding": pa.list_(pa.float32(), 2)})
    embeddings = parquet({"name": ["1"], "embedding": [[0.5, 1.0]]}, schema)
    return {
        "same": pack({"a": table}),
        "two": pack({"a": table, "b": other}),
        "embeddings": pack({"a": other, "embeddings": embeddings}),
        "none": pack({"a": embeddings}),
    }


def beside_export() -> dict[str, bytes]:
    views = {"image_size": 8, "canvas_size": 10, "crop": 0.875, "pad": False, "mean": [0.5] * 3, "std": [0.5] * 3}
    told = views | {"shorter_side": 0, "dtype": "float32", "notes": ["a note"]}
    return {"preprocessing.json": compact(told), "classes.csv": CLASSES_CSV}


def timm_export() -> Seeds:
    arguments = {"img_size": 8, "embed_dim": 2, "depth": 1, "num_heads": 1, "patch_size": 4, "mlp_ratio": 1.0}
    model = create("vit-B/16", num_classes=3, image_size=8, width=2, depth=1, heads=1, patch_size=4, mlp_ratio=1.0)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    weights = safetensors.numpy.save(to_timm(jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)))
    config = {"architecture": "vit_base_patch16_224", "num_classes": 3, "model_args": arguments}
    files = beside_export() | {"config.json": compact(config), "model.safetensors": weights}
    other = {"architecture": "resnet18", "num_classes": 3, "model_args": {}}
    return {"vit": pack(files), "resnet": pack(files | {"config.json": compact(other)})}


def jax_export() -> Seeds:
    def program(tensors: dict[str, jax.Array], images: jax.Array) -> dict[str, jax.Array]:
        embedding = images.mean((1, 2))
        return {"logits": embedding @ tensors["params.head.kernel"], "embedding": embedding}

    (batch,) = jax.export.symbolic_shape("batch")
    shapes = {"params.head.kernel": jax.ShapeDtypeStruct((3, 3), np.float32)}
    images = jax.ShapeDtypeStruct((batch, 8, 8, 3), np.float32)
    jax.config.update("jax_hlo_source_file_canonicalization_regex", ".*/")  # a path says of the machine
    exported = jax.export.export(jax.jit(program), platforms=("cpu",))(shapes, images)
    files = beside_export() | {
        "model.jaxexport": bytes(exported.serialize()),
        "weights.safetensors": safetensors.numpy.save({"params.head.kernel": np.zeros((3, 3), np.float32)}),
    }
    return {"whole": pack(files), "torn": pack(files | {"model.jaxexport": files["model.jaxexport"][:100]})}


def page() -> Seeds:
    return {
        "plain": b"vit\x1fsku_catalogue\x1fpython -m\x1fcpu",
        "tags": b'<script>alert(1)</script>\x1f" onload="x\x1f\'&amp;-->\x1f]]>',
        "template": "{{ 7 * 7 }}\x1f{% x %}\x1f\u202e\x1f</title><svg/onload=x>".encode(),
    }


def terminal() -> Seeds:
    return {
        "escape": b"\x1b[2J\x1b]0;x\x07\x9b31m",
        "table": b"a|b\\|c\n| d | `e` |\r\n<b>&*_[x](y)",
        "text": "\u202eÖl 日本茶\u2028".encode() + b"\xff",
        "yaml": b"a: 'b'\n---\n# c",
    }


SEEDS: dict[str, Callable[[], Seeds]] = {
    "raw_catalogue": raw_catalogue,
    "raw_archive": raw_archive,
    "raw_tables": raw_tables,
    "pictures": pictures,
    "picture_lists": picture_lists,
    "safetensors": safetensors_files,
    "npz": npz,
    "timm_export": timm_export,
    "jax_export": jax_export,
    "settings": settings,
    "workdir": workdir,
    "decoded": decoded,
    "predictions": predictions,
    "page": page,
    "terminal": terminal,
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
