"""What the names and shapes of a state dict say of its network, in a line: for errors that tell two of them apart."""

import re
from collections.abc import Mapping

_BLOCK = re.compile(r"blocks\.(\d+)\.")
_STAGED = re.compile(r"(?:layer(\d+)|stages\.(\d+)\.blocks)\.(\d+)\.")


def outline(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The network in words, as `12 blocks of width 384 with patches of 14`; empty where the names say nothing.

    Args:
        shapes: By timm's names, in torch's layouts.
    """
    if staged := [match for name in shapes if (match := _STAGED.match(name))]:
        return _residual_network(shapes, staged)
    depth = 1 + max((int(match[1]) for name in shapes if (match := _BLOCK.match(name))), default=-1)
    patches = shapes.get("patch_embed.proj.weight", ())
    if not depth or len(patches) != 4:
        return ""
    registers = shapes.get("reg_token", (1, 0))[1]
    extras = ([f"{registers} registers"] if registers else []) + [
        words
        for name, words in (("cls_token", "a class token"), ("attn_pool.latent", "attention pooling"))
        if name in shapes
    ]
    return f"{depth} blocks of width {patches[0]} with patches of {patches[-1]}" + (
        f", {' and '.join(extras)}" if extras else ""
    )


def _residual_network(shapes: Mapping[str, tuple[int, ...]], staged: list[re.Match]) -> str:
    counts: dict[str, int] = {}
    for match in staged:
        stage = match[1] or match[2]
        counts[stage] = max(counts.get(stage, 0), int(match[3]) + 1)
    order = "pre-activation " if staged[0][2] else ""
    kind = "bottleneck" if any(match.string.endswith(".conv3.weight") for match in staged) else "basic"
    stem = next((shapes[name][0] for name in ("conv1.weight", "stem.conv.weight") if shapes.get(name)), None)
    blocks = "-".join(str(counts[stage]) for stage in sorted(counts, key=int))
    return f"stages of {blocks} {order}{kind} blocks" + (f" after a stem of {stem} channels" if stem else "")
