import jax

from p10k_jax.models import create
from p10k_jax.models.cost import forward_flops, training_flops

MODEL = create("vit-Ti/8", num_classes=5, image_size=16, width=24, depth=1, heads=3)


def test_operations_are_those_of_the_products_and_little_more():
    tokens, width = 5, 24  # four patches and the class token
    products = 4 * 192 * width + tokens * 12 * width**2 + 2 * tokens**2 * width + 5 * width
    assert 2 * products < forward_flops(MODEL, 16) < 1.5 * 2 * products
    assert training_flops(MODEL, 16) == 3 * forward_flops(MODEL, 16)


def test_without_a_cpu_they_are_not_known(monkeypatch):
    """As with JAX_PLATFORMS=cuda; a GPU's or TPU's own backend does not count them."""

    def none(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", none)
    assert forward_flops(MODEL, 16) is None
    assert training_flops(MODEL, 16) is None


def test_they_are_counted_on_the_cpu(monkeypatch):
    taken = []
    default_device = jax.default_device
    monkeypatch.setattr(jax, "default_device", lambda device: taken.append(device) or default_device(device))
    assert forward_flops(MODEL, 16) > 0
    assert [device.platform for device in taken] == ["cpu"]
