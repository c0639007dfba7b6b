"""What accelerators can do at most, by the name that JAX gives them: the yardstick of plans and benchmarks.

Vendors' figures without sparsity. Where a vendor gives a figure with sparsity alone, it is halved. A chip is what JAX
calls a device: both cores of a TPU v4 or v5p chip together.
"""

import re
from typing import NamedTuple

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
_NVIDIA = "https://www.nvidia.com/en-us/"
_AMPERE = "NVIDIA A100 Tensor Core GPU datasheet, " + _NVIDIA + "data-center/a100/"
_H100 = "NVIDIA H100 Tensor Core GPU datasheet, " + _NVIDIA + "data-center/h100/"
_H200 = "NVIDIA H200 Tensor Core GPU datasheet, " + _NVIDIA + "data-center/h200/"
_A10 = "NVIDIA A10 datasheet, " + _NVIDIA + "data-center/products/a10-gpu/"
_T4 = "NVIDIA T4 datasheet, " + _NVIDIA + "data-center/tesla-t4/"
_V100 = "NVIDIA V100 datasheet, " + _NVIDIA + "data-center/v100/"
_ADA = "NVIDIA Ada GPU Architecture whitepaper, appendix A"


def _gpu(
    name: str, teraflops: float, gigabytes: int, bandwidth: float, link: float | None, source: str, **more
) -> Chip:
    """Bandwidths in GB/s; `link` counts both ways, as NVIDIA does."""
    return Chip(name, teraflops * 1e12, gigabytes * 10**9, bandwidth * 1e9, link and link / 2 * 1e9, source, **more)


# "16 GB" is GiB there. Google publishes what the links carry both ways together, here it is one; v4: six links of 50 GB/s
# (Jouppi et al., arXiv 2304.01433, table 4).
TPUS = {
    "v4": Chip("TPU v4", 275e12, 32 * GIB, 1200e9, 300e9, _TPU + "v4"),
    "v5e": Chip("TPU v5e", 197e12, 16 * GIB, 819e9, 200e9, _TPU + "v5e"),
    "v5p": Chip("TPU v5p", 459e12, 95 * GIB, 2765e9, 600e9, _TPU + "v5p"),
    "v6e": Chip("TPU v6e", 918e12, 32 * GIB, 1640e9, 400e9, _TPU + "v6e"),
}

# Patterns over `jax.Device.device_kind`; the first that is found decides.
_KINDS: tuple[tuple[str, Chip], ...] = (
    (r"^TPU v6 ?(lite|e)", TPUS["v6e"]),
    (r"^TPU v5 ?(lite|e)", TPUS["v5e"]),
    (r"^TPU v5p?$", TPUS["v5p"]),
    (r"^TPU v4$", TPUS["v4"]),
    (r"\bB200\b", _gpu("NVIDIA B200", 2250, 180, 7700, 1800, "NVIDIA DGX B200 datasheet, an eighth of it")),
    (r"\bH200 NVL\b", _gpu("NVIDIA H200 NVL", 835.5, 141, 4800, 900, _H200)),
    (r"\bH200\b", _gpu("NVIDIA H200", 989.5, 141, 4800, 900, _H200)),
    (r"\bGH200 480GB\b", _gpu("NVIDIA GH200", 989.5, 96, 4000, 900, "NVIDIA GH200 Grace Hopper Superchip datasheet")),
    (r"\bH100 NVL\b", _gpu("NVIDIA H100 NVL", 835.5, 94, 3900, 600, _H100)),
    (r"\bH100 PCIe\b", _gpu("NVIDIA H100 PCIe", 756, 80, 2000, 600, _H100)),
    (r"\bH100\b", _gpu("NVIDIA H100 SXM", 989.5, 80, 3350, 900, _H100)),
    (r"\bA100\b.*\bPCI.*80GB", _gpu("NVIDIA A100 PCIe 80 GB", 312, 80, 1935, 600, _AMPERE)),
    (r"\bA100\b.*80GB", _gpu("NVIDIA A100 SXM 80 GB", 312, 80, 2039, 600, _AMPERE)),
    (r"\bA100\b.*40GB", _gpu("NVIDIA A100 40 GB", 312, 40, 1555, 600, _AMPERE)),
    (r"\bL40S\b", _gpu("NVIDIA L40S", 362, 48, 864, None, "NVIDIA L40S datasheet, " + _NVIDIA + "data-center/l40s/")),
    (r"\bL4\b", _gpu("NVIDIA L4", 121, 24, 300, None, "NVIDIA L4 datasheet, " + _NVIDIA + "data-center/l4/")),
    (r"\bRTX A6000\b", _gpu("NVIDIA RTX A6000", 154.8, 48, 768, 112.5, "NVIDIA Ampere GA102 whitepaper, appendix A")),
    (r"\bRTX 4090\b(?! D| Laptop)", _gpu("NVIDIA GeForce RTX 4090", 165.2, 24, 1008, None, _ADA)),
    (r"\bRTX 3090\b(?! Ti)", _gpu("NVIDIA GeForce RTX 3090", 71, 24, 936, 112.5, "NVIDIA Ampere GA102 whitepaper")),
    (r"\bA10G\b", _gpu("NVIDIA A10G", 70, 24, 600, None, "AWS EC2 G5 instances; NVIDIA A10G datasheet")),
    (
        r"\bA10\b",
        _gpu("NVIDIA A10", 125, 24, 600, None, _A10),
    ),
    (
        r"\bT4\b",
        _gpu("NVIDIA T4", 65, 16, 320, None, _T4, bfloat16=False),
    ),
    (
        r"\bV100-PCIE\b",
        _gpu(
            "NVIDIA V100 PCIe",
            112,
            16,
            900,
            None,
            "NVIDIA V100 datasheet, " + _NVIDIA + "data-center/v100/",
            bfloat16=False,
        ),
    ),
    (
        r"\bV100-SXM2-32GB\b",
        _gpu(
            "NVIDIA V100 SXM 32 GB",
            125,
            32,
            900,
            300,
            "NVIDIA V100 datasheet, " + _NVIDIA + "data-center/v100/",
            bfloat16=False,
        ),
    ),
    (
        r"\bV100-SXM2-16GB\b",
        _gpu(
            "NVIDIA V100 SXM 16 GB",
            125,
            16,
            900,
            300,
            "NVIDIA V100 datasheet, " + _NVIDIA + "data-center/v100/",
            bfloat16=False,
        ),
    ),
)


def find(device_kind: str) -> Chip | None:
    """The chip of a `jax.Device.device_kind`, such as `TPU v5 lite` or `NVIDIA H100 80GB HBM3`; None if unknown."""
    return next((chip for pattern, chip in _KINDS if re.search(pattern, device_kind)), None)
