"""A model whose classes are split over the mesh axis `model`: no device ever holds all logits or the whole classifier.

Each device of the axis has a share of the classifier's columns, and makes that share of the logits. Losses, accuracy
and the likeliest classes reduce over classes without a gather, so that what goes over the axis is a few numbers an
image: the largest logit, sums, the label's logit (as An et al., "Partial FC", arXiv 2010.05222, split a classifier;
their sampling of classes is not here). The trunk has no use for the axis, so its images are split over it too, as over
`data`; only the embeddings are gathered, before the classifier.
"""

import re
from typing import Any

import jax
from jax.sharding import Mesh
from jaxtyping import Array

from p10k_jax.models.functional import Model, Tree
from p10k_jax.models.heads import CLASSIFIER, Outputs
from p10k_jax.training.mesh import AXES, BATCH_AXES, array_split
from p10k_jax.training.patterns import path_name


def class_sharded(model: Model, mesh: Mesh, shardings: Tree) -> Model:
    """The same model, laid out on the mesh.

    Args:
        model: Whose classes `mesh.shape["model"]` divides (`p10k_jax.models.padding`); others stay whole.
        mesh: Of `make_mesh`. Without devices on `model` the model comes back as it is.
        shardings: Of the parameters. Where they split the trunk over `model`, its images are not.

    Returns:
        A model whose `apply` and `classify` are for use under `jax.jit` on that mesh.
    """
    if mesh.shape["model"] == 1:
        return model
    trunk_batch = BATCH_AXES if _splits_trunk(shardings) else AXES

    def split(array: Array, **axes: Any) -> Array:
        return jax.lax.with_sharding_constraint(array, array_split(array, mesh, **axes))

    def classify(params: Tree, embedding: Array) -> Array:
        logits = model.classify(params, split(embedding))
        return split(logits, columns="model")

    def apply(params: Tree, batch_stats: Tree, images: Array, **settings: Any) -> tuple[Outputs, Tree]:
        outputs, batch_stats = model.apply(params, batch_stats, split(images, rows=trunk_batch), **settings)
        # The classifier once more, on embeddings that are gathered; nothing asks for the first logits, so XLA never
        # makes them.
        return outputs._replace(logits=classify(params, outputs.embedding)), batch_stats

    return model._replace(apply=apply, classify=classify)


def _splits_trunk(shardings: Tree) -> bool:
    specs = [
        tuple(sharding.spec)
        for path, sharding in jax.tree_util.tree_leaves_with_path(shardings)
        if not re.search(CLASSIFIER, path_name(path))
    ]
    return "model" in jax.tree.leaves(specs)
