"""Where a run's pixels are: streamed from files, in a memory map on the host, or on the devices; how `auto` chooses.

All three give the same batches; they differ in room and speed alone.
"""

import os
from pathlib import Path
from typing import NamedTuple

RESIDENCIES = ("stream", "host", "device")
_SETTING = "data.residency"

# `auto` takes at most these parts of what there is: a model, its moments and activations need the most of a device's
# memory, and others a disk.
_PART_OF_DEVICE, _PART_OF_DISK, _PART_OF_MEMORY = 1 / 4, 1 / 2, 1 / 2
# Decoding once pays where pictures are seen more often.
_EPOCHS = 2


class Room(NamedTuple):
    """What `auto` goes by; sizes in bytes.

    Attributes:
        canvases: Of the decoded splits that the run reads.
        missing: Of those that are not there yet.
        writable: Whether they can be written.
        disk: Free where they lie, or would.
        memory: Of the host, None if it is not known.
        shard: Of the training split's canvases that one device would hold.
        device: Memory of one device, None if it does not tell (a CPU's does not).
        epochs: Length of the run.
    """

    canvases: int
    missing: int
    writable: bool
    disk: int
    memory: int | None
    shard: int
    device: int | None
    epochs: float


def choose(asked: str, room: Room) -> tuple[str, str]:
    """The residency of a run, one of `RESIDENCIES`, and a line that says why.

    Raises:
        ValueError: an unknown name, or more than a device holds.
    """
    if asked not in ("auto", *RESIDENCIES):
        raise ValueError(f"{_SETTING}={asked!r} is unknown; known: auto, {', '.join(RESIDENCIES)}.")
    if asked == "device" and room.device is not None and room.shard > room.device:
        raise ValueError(
            f"{_SETTING}='device': the pictures take {_gb(room.shard)} a device, which has {_gb(room.device)}. Take "
            "more devices, a smaller data.canvas_size, or 'host'."
        )
    if asked == "stream":
        return asked, "pixels: streamed, as asked"
    if asked != "auto":
        return asked, _said(asked, room) + ", as asked"
    if reason := _against_decoding(room):
        return "stream", f"pixels: streamed; {reason}"
    if room.device is not None and room.shard <= room.device * _PART_OF_DEVICE:
        return "device", _said("device", room)
    return "host", _said("host", room)


def _against_decoding(room: Room) -> str:
    """Why the splits are not to be decoded once; '' where they are already, or may be."""
    would = f"decoded, the pictures would take {_gb(room.canvases)}"
    if not room.missing:
        return ""
    if room.epochs <= _EPOCHS:
        return f"a run of {room.epochs:.3g} epochs is too short to decode first"
    if not room.writable:
        return "the data's folder cannot be written"
    if room.missing > room.disk * _PART_OF_DISK:
        return f"{would}, of {_gb(room.disk)} free on the disk"
    if room.memory is None:
        return f"{would}, and this host does not tell its memory"
    if room.canvases > room.memory * _PART_OF_MEMORY:
        return f"{would}, of {_gb(room.memory)} memory"
    return ""


def _said(residency: str, room: Room) -> str:
    if residency == "device":
        of = f" of {_gb(room.device)}" if room.device is not None else ""
        return f"pixels: on the device, {_gb(room.shard)}{of} a device"
    return f"pixels: on the host, a memory map of {_gb(room.canvases)}" + ("" if room.missing else " that was there")


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def host_memory() -> int | None:
    """Bytes of memory that this process may use: the machine's, or its container's; None where neither is told."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return min(machine, int(Path(file).read_text()))
        except (OSError, ValueError):  # no such file, or `max`
            continue
    return machine
