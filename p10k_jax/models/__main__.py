"""A model by itself: what it is, or what it makes of an array with the weights of a file.

    python -m p10k_jax.models vit_small_patch14_dinov2 --image_size=518
    python -m p10k_jax.models vit_base_patch16_224 --weights=model.safetensors --input=X.npy --output=Y.npy
    python -m p10k_jax.models vit_base_patch16_224 --weights=hf_hub:timm/vit_base_patch16_224.mae --input=X.npy ...

X is float32[B, H, W, 3], square and normalised; Y becomes float32: the logits, or the pooled embedding where the file
holds no classifier. So anyone can hold a checkpoint here against its source.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from p10k_jax.files import write_bytes
from p10k_jax.models.cost import count_parameters, forward_flops
from p10k_jax.models.registry import create, known_names
from p10k_jax.weights.files import read_weights
from p10k_jax.weights.fit import count_classes, fit_tensors
from p10k_jax.weights.preprocessing import preprocessing_of
from tfds_builder.terminal import printable


def describe(name: str, image_size: int, num_classes: int) -> str:
    """Parameters and the forward pass's floating-point operations for one image; nothing is computed."""
    model = create(name, num_classes=num_classes, image_size=image_size)
    flops = forward_flops(model, image_size)
    counted = f"{flops / 1e9:.2f} GFLOP an image (a multiply and an add are two)" if flops else "only counted on a CPU"
    return (
        f"{name} at {image_size} pixels, {num_classes} classes\n"
        f"  parameters  {count_parameters(model):,}\n"
        f"  forward     {counted}\n"
        f"known: {', '.join(known_names())}"
    )


def read_images(path: Path) -> Float[np.ndarray, "b h h 3"]:
    """The array of an `.npy` file. Raises ValueError where it is none of normalised square images, or is pickled."""
    try:
        # Mapped: a header that promises more than the file holds then asks for no memory.
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"--input={path} is no .npy file of numbers ({error}).") from error
    if not isinstance(images, np.ndarray):
        raise ValueError(f"--input={path} is an archive; one array in an .npy file is needed.")
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or not images.size:
        raise ValueError(f"--input={path} has shape {images.shape}; float32[B, H, H, 3] is needed.")
    if images.dtype != np.float32:
        raise ValueError(f"--input={path} is {images.dtype}; normalised float32 is needed.")
    return images


def forward(name: str, source: str, images: Float[np.ndarray, "b h h 3"]) -> tuple[np.ndarray, str]:
    """Logits of `images` (or embeddings, for weights without a classifier), and what was loaded.

    Raises:
        ValueError: an unknown model, weights that cannot be read or do not fit.
    """
    create(name, num_classes=0, image_size=images.shape[1])  # before gigabytes are read, or fetched
    file = read_weights(source)
    num_classes = count_classes(file.tensors)
    model = create(name, num_classes=num_classes, image_size=images.shape[1])
    params, batch_stats = jax.eval_shape(model.init, jax.random.key(0))
    template = {"params": params, "batch_stats": batch_stats}
    fit = fit_tensors(file.tensors, template, prefix_tokens=model.prefix_tokens)
    fit = fit._replace(source=file.description, sha256=file.sha256)
    preprocessing = file.preprocessing or f"{preprocessing_of(name)} (by the model's name)"
    if fit.new or fit.renamed:
        lacking = ", ".join((*fit.new, *fit.renamed))
        raise ValueError(f"{source} lacks parts of {name}: {lacking}; the output would not be that of the checkpoint.")
    # float32 in earnest: GPUs and TPUs multiply in fewer bits unless told.
    with jax.default_matmul_precision("highest"):
        outputs, _ = jax.jit(model.apply)(fit.weights["params"], fit.weights.get("batch_stats", {}), images)
    report = f"{fit}\npreprocessing: {preprocessing}"
    return np.asarray(outputs.logits), report + ("" if num_classes else "\nno classifier in the file: embeddings")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m p10k_jax.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a timm model name, or ours")
    parser.add_argument(
        "--weights", metavar="SOURCE", help=".safetensors, Google's .npz, a folder, or hf_hub:timm/NAME[@REVISION]"
    )
    parser.add_argument("--input", type=Path, metavar="X.npy", help="with --weights")
    parser.add_argument("--output", type=Path, metavar="Y.npy", help="with --weights")
    parser.add_argument("--image_size", type=int, default=224, help="pixels, without --weights")
    parser.add_argument("--num_classes", type=int, default=1000, help="without --weights")
    flags = parser.parse_args(arguments)
    try:
        if flags.weights is None:
            print(describe(flags.name, flags.image_size, flags.num_classes))
            return 0
        if flags.input is None or flags.output is None:
            raise ValueError("--weights needs --input=X.npy and --output=Y.npy.")
        logits, report = forward(flags.name, flags.weights, read_images(flags.input))
        buffer = io.BytesIO()
        np.save(buffer, logits)
        write_bytes(flags.output, buffer.getvalue())
    except (ValueError, OSError) as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    print(f"{printable(str(report))}\n{flags.output}: float32{list(logits.shape)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
