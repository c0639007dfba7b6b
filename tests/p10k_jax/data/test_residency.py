import os

import pytest

from p10k_jax.data.residency import Room, choose, host_memory

GB = 10**9
# A run on two devices of 80 GB that have room for all of it.
ROOM = Room(
    canvases=30 * GB,
    missing=30 * GB,
    writable=True,
    disk=100 * GB,
    memory=128 * GB,
    shard=14 * GB,
    device=80 * GB,
    epochs=30.0,
)


@pytest.mark.parametrize(
    ("changes", "residency", "reason"),
    [
        ({}, "device", "pixels: on the device, 14.0 GB of 80.0 GB a device"),
        ({"shard": 20 * GB}, "device", "20.0 GB of 80.0 GB"),
        ({"shard": 20 * GB + 1}, "host", "pixels: on the host, a memory map of 30.0 GB"),
        ({"device": None}, "host", "pixels: on the host, a memory map of 30.0 GB"),
        ({"device": None, "missing": 0}, "host", "a memory map of 30.0 GB that was there"),
        (
            {"disk": 59 * GB},
            "stream",
            "streamed; decoded, the pictures would take 30.0 GB, of 59.0 GB free on the disk",
        ),
        ({"disk": 60 * GB}, "device", ""),
        ({"memory": 59 * GB}, "stream", "would take 30.0 GB, of 59.0 GB memory"),
        ({"memory": None}, "stream", "this host does not tell its memory"),
        ({"writable": False}, "stream", "the data's folder cannot be written"),
        ({"epochs": 2.0}, "stream", "a run of 2 epochs is too short to decode first"),
        ({"epochs": 2.1}, "device", ""),
        # What is there already is used, whatever the room.
        ({"missing": 0, "disk": 0, "memory": GB, "epochs": 0.1, "writable": False}, "device", ""),
        ({"missing": 0, "device": None, "disk": 0, "memory": GB, "epochs": 0.1}, "host", "that was there"),
        # Only what is missing must find room on the disk.
        ({"missing": 2 * GB, "disk": 4 * GB, "device": None}, "host", ""),
        ({"canvases": 230_000, "missing": 230_000, "device": None}, "host", "a memory map of 0.2 MB"),
    ],
)
def test_what_auto_chooses_and_says(changes, residency, reason):
    chosen, said = choose("auto", ROOM._replace(**changes))
    assert chosen == residency
    assert reason in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("stream", "pixels: streamed, as asked"),
        ("host", "pixels: on the host, a memory map of 30.0 GB, as asked"),
        ("device", "pixels: on the device, 14.0 GB a device, as asked"),
    ],
)
def test_what_is_asked_for_is_done(asked, reason):
    nothing = ROOM._replace(disk=0, memory=None, device=None, epochs=0.0)
    assert choose(asked, nothing) == (asked, reason)


def test_what_cannot_be():
    with pytest.raises(ValueError, match=r"data\.residency='gpu' is unknown; known: auto, stream, host, device"):
        choose("gpu", ROOM)
    with pytest.raises(ValueError, match=r"'device': the pictures take 90\.0 GB a device, which has 80\.0 GB.*'host'"):
        choose("device", ROOM._replace(shard=90 * GB))


def test_memory_of_this_host():
    assert 10**8 < host_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
