"""Nearest neighbours against a sort of all similarities in NumPy, and the size of what the program holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.evaluation import neighbours
from p10k_jax.evaluation.neighbours import Gallery, in_chunks, make_gallery, nearest, search


def brute_force(queries, gallery, k, same_set=False):
    """All similarities in float64, sorted; of equals the lower place first."""
    queries, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery))
    similarities = np.asarray(queries, np.float64) @ np.asarray(gallery, np.float64).T
    if same_set:
        np.fill_diagonal(similarities, -np.inf)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(similarities, order, axis=1)


@pytest.mark.parametrize(("query_chunk", "gallery_chunk"), [(1000, 1000), (7, 11), (1, 1), (37, 64), (16, 3)])
@pytest.mark.parametrize("same_set", [False, True])
def test_equals_a_sort_of_everything_at_any_chunk_size(query_chunk, gallery_chunk, same_set):
    random = np.random.RandomState(0)
    queries = random.standard_normal((37, 16)).astype("f") * random.uniform(0.1, 9, (37, 1)).astype("f")
    gallery = queries if same_set else random.standard_normal((101, 16)).astype("f")
    settings = {"query_chunk": query_chunk, "gallery_chunk": gallery_chunk, "same_set": same_set}
    places, similarities = nearest(queries, gallery, 9, **settings)
    expected, values = brute_force(queries, gallery, 9, same_set)
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_allclose(similarities, values, atol=1e-6)
    assert (places.dtype, similarities.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("gallery_chunk", [1000, 13, 1])
def test_of_equals_the_lower_place_comes_first(gallery_chunk):
    """Halves and their sums are exact in float32, so that ties are ties."""
    random = np.random.RandomState(1)
    gallery, queries = (random.choice([-0.5, 0.5], (size, 4)).astype("f") for size in (90, 20))
    places, similarities = nearest(queries, gallery, 30, gallery_chunk=gallery_chunk)
    expected, values = brute_force(queries, gallery, 30)
    assert (np.diff(values, axis=1) == 0).any(axis=1).all(), "the case must hold ties"
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(similarities, values)


def test_more_neighbours_than_vectors():
    vectors = np.random.RandomState(2).standard_normal((5, 3))
    places, similarities = nearest(vectors[:2], vectors, 8, gallery_chunk=2)
    np.testing.assert_array_equal(places[:, :5], brute_force(vectors[:2], vectors, 5)[0])
    assert (places[:, 5:] == -1).all()
    assert (similarities[:, 5:] == -np.inf).all()
    places, _ = nearest(vectors, vectors, 5, same_set=True)
    assert (places[:, 4] == -1).all()
    assert (places[:, :4] >= 0).all()


def test_multiplies_in_float32_in_earnest():
    """Two vectors that bfloat16 and TensorFloat-32 cannot tell apart: CPU cannot show it, the program can."""
    assert "HIGHEST" in str(program(8, 16, 4, k=2))


def program(queries, gallery, width, *, k, chunk=8192):
    chunks = -(-gallery // chunk)
    held = Gallery(
        jax.ShapeDtypeStruct((chunks, -(-gallery // chunks), width), jnp.float32),
        jax.ShapeDtypeStruct((gallery,), jnp.int32),
    )
    shape, own = jax.ShapeDtypeStruct((queries, width), jnp.float32), jax.ShapeDtypeStruct((queries,), jnp.int32)
    return jax.make_jaxpr(lambda q, g, o: search(q, g, k, o))(shape, held, own)


def largest(jaxpr) -> int:
    """Elements of the largest array that a program makes, in loops too."""
    sizes = [variable.aval.size for equation in jaxpr.eqns for variable in equation.outvars]
    for equation in jaxpr.eqns:
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                sizes.append(largest(inner))
    return max(sizes)


def test_the_whole_catalogue_against_itself_never_makes_an_array_of_all_pairs(monkeypatch):
    """The programs that `nearest` calls on 197,307 vectors of width 384, looked at, not run."""
    shapes = []

    def look(rows, held, *, k, own):
        shapes.append(rows.shape)
        return np.zeros((len(rows), k), np.int32), np.zeros((len(rows), k), np.float32)

    monkeypatch.setattr(neighbours, "_search", look)
    monkeypatch.setattr(neighbours.jax, "device_put", lambda held: held)
    vectors = np.zeros((197_307, 384), np.float32)
    nearest(vectors, vectors, 100, same_set=True)
    assert set(shapes) == {(1024, 384)}, "one shape: one program"
    made = largest(program(1024, 197_307, 384, k=100).jaxpr)
    assert made <= 1024 * (8192 + 100)
    # The measure sees inside loops: without chunks the array of all pairs is there.
    assert largest(program(1024, 197_307, 384, k=100, chunk=197_307).jaxpr) >= 1024 * 197_307


def test_chunks_of_rows_have_one_shape():
    seen = []

    def step(a, b):
        seen.append((a.shape, b.shape))
        return {"sum": a.sum(axis=1) + b}

    told = []
    a, b = np.arange(14.0).reshape(7, 2), np.arange(7)
    out = in_chunks(step, (a, b), chunk=3, progress=lambda done, size: told.append((done, size)))
    np.testing.assert_array_equal(out["sum"], a.sum(axis=1) + b)
    assert set(seen) == {((3, 2), (3,))}
    assert told == [(3, 7), (6, 7), (7, 7)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"queries": np.ones((2, 4))}, r"queries \(2, 4\), gallery \(5, 3\)"),
        ({"queries": np.ones((2, 3)), "same_set": True}, "same_set=True"),
        ({"gallery": np.full((5, 3), np.nan)}, "gallery: vector 0 is not finite"),
        ({"queries": np.ones(3)}, r"vectors of shape \(3,\)"),
        ({"gallery": np.ones((0, 3))}, "at least one vector"),
        ({"queries": np.ones((0, 3))}, "no rows"),
    ],
)
def test_bad_input(change, message):
    settings = {"queries": np.ones((5, 3)), "gallery": np.ones((5, 3)), "k": 2} | change
    with pytest.raises(ValueError, match=message):
        nearest(settings.pop("queries"), settings.pop("gallery"), settings.pop("k"), **settings)


def test_a_gallery_needs_a_label_for_each_vector():
    with pytest.raises(ValueError, match="a label for each"):
        make_gallery(np.ones((5, 3)), np.zeros(4, int))
