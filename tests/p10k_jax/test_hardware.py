import math

import pytest

from p10k_jax.hardware import TPUS, find


@pytest.mark.parametrize(
    ("kind", "name", "teraflops", "memory", "gigabytes_a_second"),
    [  # as JAX names them, and as their vendors' sheets say
        ("TPU v4", "TPU v4", 275, 32 * 2**30, 1200),
        ("TPU v5 lite", "TPU v5e", 197, 16 * 2**30, 819),
        ("TPU v5", "TPU v5p", 459, 95 * 2**30, 2765),
        ("TPU v6 lite", "TPU v6e", 918, 32 * 2**30, 1640),
        ("NVIDIA H200", "NVIDIA H200", 989.5, 141e9, 4800),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM", 989.5, 80e9, 3350),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe", 756, 80e9, 2000),
        ("NVIDIA H100 NVL", "NVIDIA H100 NVL", 835.5, 94e9, 3900),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 SXM 80 GB", 312, 80e9, 2039),
        ("NVIDIA A100 80GB PCIe", "NVIDIA A100 PCIe 80 GB", 312, 80e9, 1935),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 40 GB", 312, 40e9, 1555),
        ("NVIDIA A100-PCIE-40GB", "NVIDIA A100 40 GB", 312, 40e9, 1555),
        ("NVIDIA L4", "NVIDIA L4", 121, 24e9, 300),
        ("NVIDIA L40S", "NVIDIA L40S", 362, 48e9, 864),
        ("Tesla T4", "NVIDIA T4", 65, 16e9, 320),
        ("Tesla V100-SXM2-16GB", "NVIDIA V100 SXM 16 GB", 125, 16e9, 900),
        ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090", 165.2, 24e9, 1008),
    ],
)
def test_chips_by_the_name_that_jax_gives(kind, name, teraflops, memory, gigabytes_a_second):
    chip = find(kind)
    assert chip.name == name
    assert (chip.flops, chip.memory_bytes) == (teraflops * 1e12, memory)
    assert chip.memory_bandwidth == gigabytes_a_second * 1e9
    assert chip.source


@pytest.mark.parametrize(
    "kind", ["cpu", "", "TPU v5x", "NVIDIA GeForce RTX 4090 D", "NVIDIA L40", "AMD Instinct MI300X"]
)
def test_an_unknown_chip_is_none(kind):
    assert find(kind) is None


def test_links_count_one_way():
    assert find("NVIDIA H200").interconnect_bandwidth == 450e9
    assert find("NVIDIA L4").interconnect_bandwidth is None
    # All-reduce bandwidth of a pod, as Google publishes it for v5e: 51.2 TB/s over 256 chips.
    assert math.isclose(TPUS["v5e"].interconnect_bandwidth, 51.2e12 / 256)


def test_chips_without_bfloat16_say_so():
    assert [find(kind).bfloat16 for kind in ("Tesla T4", "Tesla V100-SXM2-16GB", "NVIDIA L4")] == [False, False, True]
