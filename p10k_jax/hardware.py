"""What accelerators can do at most, by the name that JAX gives them: the yardstick of plans and benchmarks.

Vendors' figures without sparsity. Where a vendor gives a figure with sparsity alone, it is halved. A chip is what JAX
calls a device: both cores of a TPU v4 or v5p chip together.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import jax

GIB = 2**30


class Chip(NamedTuple):
    """Peaks of one chip.

    Attributes:
        name: For a person.
        flops: Floating-point operations a second in bfloat16 (float16 where `bfloat16` is False), sums in float32.
        memory_bytes: Of the accelerator.
        memory_bandwidth: Bytes a second.
        interconnect_bandwidth: Bytes a second that the chip sends to others of its slice or machine over all its links
            together, one way; None where it has but the host's bus, or none is published.
        source: Where the vendor says so.
        bfloat16: Whether its matrix units take bfloat16.
    """

    name: str
    flops: float
    memory_bytes: int
    memory_bandwidth: float
    interconnect_bandwidth: float | None
    source: str
    bfloat16: bool = True


_TPU = "https://cloud.google.com/tpu/docs/"
# "16 GB" is GiB there. Google publishes what the links carry both ways together, here it is one way; v4: six links of
# 50 GB/s (Jouppi et al., arXiv 2304.01433, table 4).
TPUS = {
    "v4": Chip("TPU v4", 275e12, 32 * GIB, 1200e9, 300e9, _TPU + "v4"),
    "v5e": Chip("TPU v5e", 197e12, 16 * GIB, 819e9, 200e9, _TPU + "v5e"),
    "v5p": Chip("TPU v5p", 459e12, 95 * GIB, 2765e9, 600e9, _TPU + "v5p"),
    "v6e": Chip("TPU v6e", 918e12, 32 * GIB, 1640e9, 400e9, _TPU + "v6e"),
}


def _gpu(
    name: str,
    *,
    tera: float,
    gigabytes: int,
    bandwidth: float,
    nvlink: float | None = None,
    source: str,
    bfloat16: bool = True,
) -> Chip:
    """Bandwidths in GB/s; `nvlink` counts both ways, as NVIDIA does."""
    link = None if nvlink is None else nvlink / 2 * 1e9
    return Chip("NVIDIA " + name, tera * 1e12, gigabytes * 10**9, bandwidth * 1e9, link, source, bfloat16)


def _datasheet(page: str) -> str:
    return f"datasheet, https://www.nvidia.com/en-us/data-center/{page}/"


_ADA, _GA102 = "NVIDIA Ada GPU Architecture whitepaper, appendix A", "NVIDIA Ampere GA102 whitepaper, appendix A"
_A100 = {"tera": 312, "nvlink": 600, "source": _datasheet("a100")}
_H100, _H200 = {"source": _datasheet("h100")}, {"source": _datasheet("h200")}
_V100 = {"bandwidth": 900, "bfloat16": False, "source": _datasheet("v100")}

# Patterns over `jax.Device.device_kind`; the first that is found decides.
_KINDS: tuple[tuple[str, Chip], ...] = (
    (r"^TPU v6 ?(lite|e)", TPUS["v6e"]),
    (r"^TPU v5 ?(lite|e)", TPUS["v5e"]),
    (r"^TPU v5p?$", TPUS["v5p"]),
    (r"^TPU v4$", TPUS["v4"]),
    (r"\bB200\b", _gpu("B200", tera=2250, gigabytes=180, bandwidth=8000, nvlink=1800, source=_datasheet("dgx-b200"))),
    (r"\bH200 NVL\b", _gpu("H200 NVL", tera=835.5, gigabytes=141, bandwidth=4800, nvlink=900, **_H200)),
    (r"\bH200\b", _gpu("H200", tera=989.5, gigabytes=141, bandwidth=4800, nvlink=900, **_H200)),
    (r"\bH100 NVL\b", _gpu("H100 NVL", tera=835.5, gigabytes=94, bandwidth=3900, nvlink=600, **_H100)),
    (r"\bH100 PCIe\b", _gpu("H100 PCIe", tera=756, gigabytes=80, bandwidth=2000, nvlink=600, **_H100)),
    (r"\bH100 80GB HBM3\b", _gpu("H100 SXM", tera=989.5, gigabytes=80, bandwidth=3350, nvlink=900, **_H100)),
    (r"\bA100 80GB PCIe\b|\bA100-PCIE-80GB\b", _gpu("A100 PCIe 80 GB", gigabytes=80, bandwidth=1935, **_A100)),
    (r"\bA100\b.*80GB", _gpu("A100 SXM 80 GB", gigabytes=80, bandwidth=2039, **_A100)),
    (r"\bA100\b.*40GB", _gpu("A100 40 GB", gigabytes=40, bandwidth=1555, **_A100)),
    (r"\bL40S\b", _gpu("L40S", tera=362, gigabytes=48, bandwidth=864, source=_datasheet("l40s"))),
    (r"\bL4\b", _gpu("L4", tera=121, gigabytes=24, bandwidth=300, source=_datasheet("l4"))),
    (r"\bRTX A6000\b", _gpu("RTX A6000", tera=154.8, gigabytes=48, bandwidth=768, nvlink=112.5, source=_GA102)),
    (r"\bRTX 4090$", _gpu("GeForce RTX 4090", tera=165.2, gigabytes=24, bandwidth=1008, source=_ADA)),
    (r"\bRTX 3090$", _gpu("GeForce RTX 3090", tera=71, gigabytes=24, bandwidth=936, nvlink=112.5, source=_GA102)),
    (r"\bA10$", _gpu("A10", tera=125, gigabytes=24, bandwidth=600, source=_datasheet("products/a10-gpu"))),
    (r"\bT4$", _gpu("T4", tera=65, gigabytes=16, bandwidth=320, source=_datasheet("tesla-t4"), bfloat16=False)),
    (r"\bV100-PCIE-16GB$", _gpu("V100 PCIe 16 GB", tera=112, gigabytes=16, **_V100)),
    (r"\bV100-SXM2-32GB$", _gpu("V100 SXM 32 GB", tera=125, gigabytes=32, nvlink=300, **_V100)),
    (r"\bV100-SXM2-16GB$", _gpu("V100 SXM 16 GB", tera=125, gigabytes=16, nvlink=300, **_V100)),
)


def find(device_kind: str) -> Chip | None:
    """The chip of a `jax.Device.device_kind`, such as `TPU v5 lite` or `NVIDIA H100 80GB HBM3`; None if unknown."""
    return next((chip for pattern, chip in _KINDS if re.search(pattern, device_kind)), None)


def peak_flops(devices: Sequence[jax.Device]) -> float | None:
    """Operations a second that the devices can do at most, all together; None if one is unknown."""
    chips = [find(device.device_kind) for device in devices]
    return None if None in chips else sum(chip.flops for chip in chips)


def peak_memory() -> int | None:
    """The most bytes that have been in use on one of this process's devices; None where a backend does not count."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    return None if None in peaks else max(peaks)
