"""Small checkpoints in the layouts of other codebases, from fixed numbers; NumPy only, for torch's side too."""

import hashlib
import zlib
from collections.abc import Mapping

import numpy as np

WIDTH, HEADS, DEPTH, HIDDEN, PATCH, GRID, CLASSES = 24, 3, 2, 48, 4, 4, 10
Arrays = dict[str, np.ndarray]


def fixed(shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """float32, standard normal, drawn by name."""
    return {
        name: np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def hashed(array: np.ndarray) -> str:
    """Shape and a hash of the values as float32."""
    values = np.ascontiguousarray(array, np.float32)
    return f"{list(values.shape)} {hashlib.sha256(values.tobytes()).hexdigest()[:16]}"


def _attention(scope: str) -> dict[str, tuple[int, ...]]:
    head = (HEADS, WIDTH // HEADS)
    shapes = {f"{scope}/{part}/kernel": (WIDTH, *head) for part in ("query", "key", "value")}
    shapes |= {f"{scope}/{part}/bias": head for part in ("query", "key", "value")}
    return shapes | {f"{scope}/out/kernel": (*head, WIDTH), f"{scope}/out/bias": (WIDTH,)}


def _norm(scope: str) -> dict[str, tuple[int, ...]]:
    return {f"{scope}/scale": (WIDTH,), f"{scope}/bias": (WIDTH,)}


def _mlp(scope: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{scope}/Dense_0/kernel": (WIDTH, HIDDEN),
        f"{scope}/Dense_0/bias": (HIDDEN,),
        f"{scope}/Dense_1/kernel": (HIDDEN, WIDTH),
        f"{scope}/Dense_1/bias": (WIDTH,),
    }


def vit(*, big_vision: bool, pool: str = "token", stacked: bool = False) -> Arrays:
    """A ViT as google-research/vision_transformer or big_vision stores it: with a class token and a classifier, or
    SigLIP's image tower (`pool='map'`)."""
    attention, norm, mlp = (0, 1, 0) if big_vision else (1, 2, 3)
    shapes = {"embedding/kernel": (PATCH, PATCH, 3, WIDTH), "embedding/bias": (WIDTH,)}
    prefix = 0 if pool == "map" else 1
    table = "pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding"
    shapes[table] = (1, GRID * GRID + prefix, WIDTH)
    if prefix:
        shapes |= {"cls": (1, 1, WIDTH), "head/kernel": (WIDTH, CLASSES), "head/bias": (CLASSES,)}
    scopes = ["Transformer/encoderblock"] if stacked else [f"Transformer/encoderblock_{i}" for i in range(DEPTH)]
    for scope in scopes:
        block = _attention(f"{scope}/MultiHeadDotProductAttention_{attention}") | _mlp(f"{scope}/MlpBlock_{mlp}")
        block |= _norm(f"{scope}/LayerNorm_0") | _norm(f"{scope}/LayerNorm_{norm}")
        shapes |= {name: (DEPTH, *shape) if stacked else shape for name, shape in block.items()}
    shapes |= _norm("Transformer/encoder_norm")
    if pool == "map":
        shapes |= {"MAPHead_0/probe": (1, 1, WIDTH)} | _norm("MAPHead_0/LayerNorm_0") | _mlp("MAPHead_0/MlpBlock_0")
        shapes |= _attention("MAPHead_0/MultiHeadDotProductAttention_0")
    return fixed(shapes)


def under(root: str, arrays: Arrays) -> Arrays:
    """The same arrays with a root before their names."""
    return {root + name: array for name, array in arrays.items()}


def siglip(*, stacked: bool = False) -> Arrays:
    """Both towers, the text's in a few arrays."""
    text = {"params/txt/Embed_0/embedding": (50, WIDTH), "params/txt/head/kernel": (WIDTH, WIDTH), "params/t": (1,)}
    return under("params/img/", vit(big_vision=True, pool="map", stacked=stacked)) | fixed(text)


# Widths that timm's groups of 32 channels divide.
BIT_LAYERS, BIT_CHANNELS, BIT_STEM = (1, 2, 1, 1), (128, 128, 128, 256), 32


def bit() -> Arrays:
    """A narrow BiT-M."""
    shapes = {"root_block/standardized_conv2d/kernel": (7, 7, 3, BIT_STEM)}
    before = BIT_STEM
    for stage, (layers, channels) in enumerate(zip(BIT_LAYERS, BIT_CHANNELS, strict=True), 1):
        middle = channels // 4
        for unit in range(1, layers + 1):
            scope = f"block{stage}/unit{unit:02d}"
            kernels = {"a": (1, 1, before, middle), "b": (3, 3, middle, middle), "c": (1, 1, middle, channels)}
            shapes |= {f"{scope}/{part}/standardized_conv2d/kernel": shape for part, shape in kernels.items()}
            norms = {"a": before, "b": middle, "c": middle}
            for part, width in norms.items():
                shapes |= {f"{scope}/{part}/group_norm/{leaf}": (width,) for leaf in ("gamma", "beta")}
            if unit == 1:
                shapes[f"{scope}/a/proj/standardized_conv2d/kernel"] = (1, 1, before, channels)
            before = channels
    shapes |= {"group_norm/gamma": (before,), "group_norm/beta": (before,)}
    shapes |= {"head/conv2d/kernel": (1, 1, before, CLASSES), "head/conv2d/bias": (CLASSES,)}
    return under("resnet/", fixed(shapes))


def dinov2() -> Arrays:
    """DINOv2's own names, with registers and a gated MLP; torch's layouts."""
    shapes = {"cls_token": (1, 1, WIDTH), "register_tokens": (1, 4, WIDTH), "mask_token": (1, WIDTH)}
    shapes |= {"pos_embed": (1, GRID * GRID + 1, WIDTH), "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH)}
    shapes["patch_embed.proj.bias"] = (WIDTH,)
    for i in range(DEPTH):
        block = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
        block |= {"mlp.w12": (2 * HIDDEN, WIDTH), "mlp.w3": (WIDTH, HIDDEN)}
        for name, shape in block.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{name}.weight": (WIDTH,), f"blocks.{i}.{name}.bias": (WIDTH,)}
        shapes |= {f"blocks.{i}.ls{k}.gamma": (WIDTH,) for k in (1, 2)}
    return fixed(shapes | {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)})


# By name: an archive's arrays.
ARCHIVES = {
    "vit": vit(big_vision=False),
    "vit-under-opt": under("opt/target/", vit(big_vision=False)),
    "big_vision": under("params/", vit(big_vision=True)),
    "big_vision-stacked": under("params/", vit(big_vision=True, stacked=True)),
    "siglip": siglip(),
    "siglip-stacked": siglip(stacked=True),
    "bit": bit(),
}


def torchvision_vit() -> dict[str, tuple[int, ...]]:
    """Shapes of torchvision's `VisionTransformer` by its names."""
    shapes = {"class_token": (1, 1, WIDTH), "conv_proj.weight": (WIDTH, 3, PATCH, PATCH), "conv_proj.bias": (WIDTH,)}
    shapes["encoder.pos_embedding"] = (1, GRID * GRID + 1, WIDTH)
    for i in range(DEPTH):
        scope = f"encoder.layers.encoder_layer_{i}"
        dense = {"self_attention.in_proj_": (3 * WIDTH, WIDTH), "self_attention.out_proj.": (WIDTH, WIDTH)}
        dense |= {"mlp.0.": (HIDDEN, WIDTH), "mlp.3.": (WIDTH, HIDDEN)}
        for name, shape in dense.items():
            shapes |= {f"{scope}.{name}weight": shape, f"{scope}.{name}bias": shape[:1]}
        shapes |= {f"{scope}.ln_{k}.{leaf}": (WIDTH,) for k in (1, 2) for leaf in ("weight", "bias")}
    shapes |= {"encoder.ln.weight": (WIDTH,), "encoder.ln.bias": (WIDTH,)}
    return shapes | {"heads.head.weight": (CLASSES, WIDTH), "heads.head.bias": (CLASSES,)}
