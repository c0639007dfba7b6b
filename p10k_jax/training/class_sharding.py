"""A model whose classes are split over the mesh axis `model`: no device ever holds all logits or the whole classifier.

Each device of the axis has a share of the classifier's columns, and makes that share of the logits. Losses, accuracy
and the likeliest classes reduce over classes without a gather, so that what goes over the axis is a few numbers an
image: the largest logit, sums, the label's logit (the idea of An et al., "Partial FC", arXiv 2010.05222, section 3.1,
without its sampling). The trunk has no use for the axis, so its images are split over it too, as over `data`; only the
embeddings of an axis' devices are gathered before the classifier.
"""

import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from p10k_jax.models.functional import Model, Tree
from p10k_jax.models.heads import CLASSIFIER, Outputs
from p10k_jax.training.patterns import first_match, path_name

_BATCH = ("data", "fsdp")


def class_sharded(model: Model, mesh: Mesh, shardings: Tree) -> Model:
    """The same model, laid out on the mesh.

    Args:
        model: Whose classes `mesh.shape["model"]` divides (`p10k_jax.models.padding`); others stay whole.
        mesh: Of `make_mesh`. Without devices on `model` the model comes back as it is.
        shardings: Of the parameters. Where they split the trunk over `model`, its images are not.

    Returns:
        A model whose `apply` and `classify` are for use under `jax.jit` on that mesh.
    """
    parts = mesh.shape["model"]
    if parts == 1:
        return model
    trunk_batch = _BATCH if _splits_trunk(shardings) else (*_BATCH, "model")

    def classify(params: Tree, embedding: Array) -> Array:
        logits = model.classify(params, _split(embedding, mesh, _BATCH))
        return _split(logits, mesh, _BATCH, "model")

    def apply(params: Tree, batch_stats: Tree, images: Array, **settings: Any) -> tuple[Outputs, Tree]:
        outputs, batch_stats = model.apply(params, batch_stats, _split(images, mesh, trunk_batch), **settings)
        # The classifier once more, on embeddings that are gathered; nothing asks for the first logits, so XLA never
        # makes them.
        return outputs._replace(logits=classify(params, outputs.embedding)), batch_stats

    return model._replace(apply=apply, classify=classify)


def _splits_trunk(shardings: Tree) -> bool:
    return any(
        "model" in jax.tree.leaves(tuple(sharding.spec))
        and not first_match([(CLASSIFIER, True)], path_name(path), False)
        for path, sharding in jax.tree_util.tree_leaves_with_path(shardings)
    )


def _split(array: Array, mesh: Mesh, rows: tuple[str, ...], columns: str | None = None) -> Array:
    """The array with the first axis over some of the mesh's, and the last over another, where they divide it."""

    def dividing(size: int, *names: str) -> tuple[str, ...] | None:
        return names if size % math.prod(mesh.shape[name] for name in names) == 0 else None

    spec = [dividing(array.shape[0], *rows) or dividing(array.shape[0], *_BATCH), *[None] * (array.ndim - 1)]
    if columns is not None:
        spec[-1] = dividing(array.shape[-1], columns)
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, P(*spec)))
