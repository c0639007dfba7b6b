"""Targets of exports, as `p10k_jax.predict --export` takes them."""

from pathlib import Path

import jax
import jax.numpy as jnp

from p10k_jax.classifier import classifier_of_export
from tests.fuzz import folders
from tests.fuzz.check import Target


def _export(data: bytes, folder: Path) -> None:
    """A folder of either format, up to the shapes of what it would say."""
    folders.write(folders.unpack(data), folder)
    classifier = classifier_of_export(folder)
    size = classifier.views.image_size
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    logits, embedding = jax.eval_shape(classifier.apply, classifier.weights, images)
    assert logits.shape[0] == embedding.shape[0] == 2
    assert logits.shape[1] >= len(classifier.classes)


TARGETS = {
    "timm_export": Target(_export, (ValueError,)),
    "jax_export": Target(_export, (ValueError,), most_bytes=1 << 15),
}
