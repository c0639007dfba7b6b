import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.training.checksums import _on_devices, checksums, damaged
from p10k_jax.training.mesh import batch_sharding, make_mesh, replicated


def tree():
    return {
        "params": {"kernel": jnp.linspace(-1, 1, 64).reshape(16, 4), "half": jnp.arange(16, dtype=jnp.bfloat16)},
        "step": jnp.int32(-7),
        "key": jnp.array([2**32 - 1, 5], jnp.uint32),
        "mask": jnp.array([True, False, True]),
    }


def test_is_the_sum_of_the_bits_on_any_mesh_and_on_the_host():
    host = jax.device_get(tree())
    words = [int.from_bytes(host["params"]["kernel"].tobytes()[i : i + 4], "little") for i in range(0, 256, 4)]
    expected = {"params.kernel": sum(words) % 2**32, "step": 2**32 - 7, "key": 4, "mask": 2}
    on_host, not_finite = checksums(host)
    assert expected.items() <= on_host.items()
    assert not not_finite
    for mesh in (make_mesh(), make_mesh(data=2, fsdp=4)):
        placed = jax.device_put(host, replicated(mesh))
        placed["params"]["kernel"] = jax.device_put(host["params"]["kernel"], batch_sharding(mesh))
        assert checksums(placed) == (on_host, [])
    assert checksums({}) == ({}, [])


@pytest.mark.parametrize("place", [0, 17, 63])
@pytest.mark.parametrize("bit", [0, 23, 31])
def test_a_bit_that_changes_is_found(place, bit):
    host = jax.device_get(tree())
    sums, _ = checksums(host)
    assert damaged(host, sums) == []
    kernel = host["params"]["kernel"].copy()
    kernel.view(np.uint32).reshape(-1)[place] ^= np.uint32(1 << bit)
    host["params"]["kernel"] = kernel
    assert damaged(host, sums) == ["params.kernel"]
    assert damaged(jax.device_put(host), sums) == ["params.kernel"]
    assert damaged(host, {}) == []


def test_what_is_not_finite_is_named():
    broken = tree()
    broken["params"]["half"] = broken["params"]["half"].at[3].set(jnp.inf)
    assert checksums(broken)[1] == ["params.half"]
    assert checksums(jax.device_get(broken))[1] == ["params.half"]


@pytest.mark.parametrize("mesh", [(8, 1, 1), (2, 4, 1)])
def test_xla_and_numpy_agree(mesh):
    """Accelerators, and processes that have a part each, take XLA's way."""
    placed = jax.device_put(tree() | {"large": jnp.full(3, 3e38)}, replicated(make_mesh(*mesh)))
    placed["params"]["kernel"] = jax.device_put(placed["params"]["kernel"], batch_sharding(make_mesh(*mesh)))
    leaves = jax.tree.leaves(placed)
    sums, finite = _on_devices(leaves)
    found, not_finite = checksums(placed)
    assert list(found.values()) == sums.tolist()
    assert finite.all()
    assert not_finite == []  # though the sum of the large ones is infinite
