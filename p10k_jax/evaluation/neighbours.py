"""The nearest vectors by cosine similarity, exactly, without ever holding queries x gallery.

The gallery is read in chunks; of each the similarities to a chunk of queries are computed and merged into a running
top k. Everything is float32 in earnest: among thousands of look-alikes bfloat16's eight bits reorder neighbours.

Memory on the device, in floats: the gallery g d, and for a chunk of q queries at a time q (d + 3 (c + k)) with c
vectors in a chunk of the gallery; 142 thousand vectors of width 768 and 1,024 queries take 0.55 GB.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from p10k_jax.models.heads import unit

_GALLERY_CHUNK, _QUERY_CHUNK = 8192, 1024


class Gallery(NamedTuple):
    """What is searched; a pytree.

    Attributes:
        vectors: float32[p, c, d], p chunks of c unit vectors, the last padded.
        labels: int32[g], the class of each.
    """

    vectors: Array
    labels: Array

    def __len__(self) -> int:
        return self.labels.shape[0]


def make_gallery(
    vectors: Float[np.ndarray, "g d"], labels: Int[np.ndarray, " g"] | None = None, *, chunk: int = _GALLERY_CHUNK
) -> Gallery:
    """A gallery on the host; place it where it is searched.

    Args:
        vectors: Of any length but infinite; zero is similar to nothing (0).
        labels: Default: all 0.
        chunk: Most vectors of a chunk.

    Raises:
        ValueError: no vectors, not one label for each, a value that is not finite.
    """
    vectors = _checked(vectors, "gallery")
    size = len(vectors)
    labels = np.zeros(size, np.int32) if labels is None else np.asarray(labels, np.int32)
    if not size or labels.shape != (size,) or chunk < 1:
        raise ValueError(
            f"gallery: {size} vectors, labels of shape {labels.shape}, chunk={chunk}; give at least one vector, a "
            "label for each and a chunk of at least 1."
        )
    chunks = -(-size // chunk)
    rows = -(-size // chunks)  # chunks of one size: the least padding
    out = np.zeros((chunks * rows, vectors.shape[1]), np.float32)
    out[:size] = unit_rows(vectors)
    return Gallery(out.reshape(chunks, rows, -1), labels)


def unit_rows(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length one, float32, as `heads.unit` makes them; zero stays zero."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _checked(vectors: np.ndarray, what: str) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2:
        raise ValueError(f"{what}: vectors of shape {vectors.shape}; [number, width] is needed.")
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise ValueError(f"{what}: vector {row} is not finite; did the training diverge?")
    return vectors


def search(
    queries: Float[Array, "q d"], gallery: Gallery, k: int, own: Int[Array, " q"] | None = None
) -> tuple[Int[Array, "q k"], Float[Array, "q k"]]:
    """The k nearest of each query; to be traced.

    Args:
        queries: Of any length.
        gallery: What to search.
        k: At least 1.
        own: Place in the gallery of each query itself, which is passed over; -1 for none.

    Returns:
        Places in the gallery, and similarities in -1..1, descending, of equals the lower place first. Where the gallery
        has fewer than k, the rest is -1 and -inf.
    """
    queries = unit(queries.astype(jnp.float32))
    rows = gallery.vectors.shape[1]

    def merge(best, part):
        number, vectors = part
        similarities = jnp.einsum("qd,cd->qc", queries, vectors, precision=jax.lax.Precision.HIGHEST)
        places = number * rows + jnp.arange(rows, dtype=jnp.int32)[None]
        allowed = places < len(gallery)
        if own is not None:
            allowed &= places != own[:, None]
        similarities = jnp.where(allowed, similarities, -jnp.inf)
        # What was found before stands before: top_k takes the first of equals.
        values = jnp.concatenate([best[1], similarities], axis=1)
        values, taken = jax.lax.top_k(values, k)
        before = jnp.take_along_axis(best[0], jnp.minimum(taken, k - 1), axis=1)
        return (jnp.where(taken < k, before, number * rows + taken - k), values), None

    start = jnp.full((len(queries), k), -1, jnp.int32), jnp.full((len(queries), k), -jnp.inf, jnp.float32)
    numbers = jnp.arange(len(gallery.vectors), dtype=jnp.int32)
    return jax.lax.scan(merge, start, (numbers, gallery.vectors))[0]


_search = jax.jit(search, static_argnames="k")


def nearest(
    queries: Float[np.ndarray, "q d"],
    gallery: Float[np.ndarray, "g d"],
    k: int,
    *,
    same_set: bool = False,
    query_chunk: int = _QUERY_CHUNK,
    gallery_chunk: int = _GALLERY_CHUNK,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Int[np.ndarray, "q k"], Float[np.ndarray, "q k"]]:
    """The k nearest of each query by cosine similarity, on this host's first device.

    Args:
        queries, gallery: Of any length but infinite.
        k: At least 1.
        same_set: Queries and gallery are the same vectors in the same order, and none is its own neighbour.
        query_chunk, gallery_chunk: Most vectors at a time; they change memory and time, not the result.
        progress: Told queries done and in all.

    Returns:
        As `search`: int32[q,k] and float32[q,k].

    Raises:
        ValueError: widths that differ, a value that is not finite, a k or chunk below 1.
    """
    queries = _checked(queries, "queries")
    held = make_gallery(gallery, chunk=gallery_chunk)
    if queries.shape[1] != held.vectors.shape[2] or min(k, query_chunk) < 1 or (same_set and len(queries) != len(held)):
        raise ValueError(
            f"queries {queries.shape}, gallery {np.shape(gallery)}, k={k}, query_chunk={query_chunk}, "
            f"same_set={same_set}: the widths must agree, for same_set the numbers too, and k and chunks be at least 1."
        )
    held = jax.device_put(held)

    def step(rows, own):
        return _search(rows, held, k=k, own=own)

    own = np.arange(len(queries), dtype=np.int32) if same_set else np.full(len(queries), -1, np.int32)
    return in_chunks(step, (queries, own), chunk=query_chunk, progress=progress)


def in_chunks(
    step: Callable,
    arrays: tuple[np.ndarray, ...],
    *,
    chunk: int = 256,
    progress: Callable[[int, int], None] | None = None,
):
    """A jitted function of rows over chunks of one shape, its results (a tree of arrays with as many rows) on the host.

    Raises:
        ValueError: no rows.
    """
    size = len(arrays[0])
    if not size:
        raise ValueError("There are no rows to compute on.")
    chunk = min(chunk, size)
    results = []
    for start in range(0, size, chunk):
        parts = [array[start : start + chunk] for array in arrays]
        missing = chunk - len(parts[0])
        padded = [np.pad(part, [(0, missing)] + [(0, 0)] * (part.ndim - 1)) for part in parts] if missing else parts
        results.append(jax.device_get(step(*padded)))
        if progress is not None:
            progress(min(size, start + chunk), size)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:size], *results)
