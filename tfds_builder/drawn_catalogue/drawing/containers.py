"""The shapes of containers, as data. Lengths are fractions of the container's height, y runs down."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Round:
    """A container turned on a lathe.

    Attributes:
      profile: (y, half width) from top (0) to bottom (1); straight lines between, edges rounded a little.
      zones: (first y, last y, role); the role gives the colour: cap, body, metal, contents, foil. Later ones win.
      label: first and last y of the label.
      tilt: how far from above it is seen: 0 side-on, 0.2 a good deal.
      gloss: name of a shading, one of `materials.GLOSSES`.
      parts: extra outlines (role, points (x from the axis, y), behind) such as a pump's head or a jug's handle.
    """

    profile: tuple[tuple[float, float], ...]
    zones: tuple[tuple[float, float, str], ...]
    label: tuple[float, float]
    tilt: float = 0.1
    gloss: str = "plastic"
    parts: tuple[tuple[str, tuple[tuple[float, float], ...], bool], ...] = ()


@dataclasses.dataclass(frozen=True)
class Boxed:
    """A box seen from a corner: widths of front and side; a roof for gable-top cartons; a straw for small drinks."""

    front: float
    side: float
    roof: float = 0.0
    straw: bool = False


@dataclasses.dataclass(frozen=True)
class Soft:
    """A bag, pouch, sachet or wrapper: width, and which edges are crimped.

    Attributes:
      width: relative to the height.
      outline: 'pouch', 'pillow', 'sachet', 'sack' or 'bar'.
      volume: 0 (flat) to 1 (blown up): strength of its shading.
    """

    width: float
    outline: str
    volume: float


@dataclasses.dataclass(frozen=True)
class Carded:
    """A blister: printed card with a hole to hang by and a clear bubble over the goods."""

    width: float


_HANDLE = ((0.10, 0.20), (0.26, 0.22), (0.31, 0.30), (0.31, 0.52), (0.26, 0.60), (0.16, 0.60))
_HANDLE_HOLE = ((0.14, 0.26), (0.23, 0.275), (0.255, 0.32), (0.255, 0.49), (0.23, 0.535), (0.16, 0.535))
_TRIGGER = (
    *((-0.17, 0.03), (-0.14, 0.0), (0.10, 0.0), (0.15, 0.05), (0.13, 0.13), (0.05, 0.16)),
    *((-0.05, 0.16), (-0.06, 0.11), (-0.10, 0.12), (-0.145, 0.25), (-0.175, 0.24), (-0.15, 0.10), (-0.17, 0.09)),
)
_PUMP = ((-0.16, 0.035), (-0.14, 0.0), (0.07, 0.0), (0.085, 0.03), (0.07, 0.065), (-0.11, 0.065), (-0.15, 0.09))

CONTAINERS: dict[str, Round | Boxed | Soft | Carded] = {
    "bottle": Round(
        ((0, 0.055), (0.08, 0.055), (0.08, 0.045), (0.14, 0.045), (0.2, 0.07), (0.3, 0.15), (0.92, 0.165), (1, 0.14)),
        ((0, 1, "contents"), (0, 0.085, "cap")),
        (0.37, 0.90),
        gloss="glass",
    ),
    "sauce bottle": Round(
        ((0, 0.05), (0.15, 0.085), (0.19, 0.09), (0.19, 0.085), (0.32, 0.17), (0.42, 0.19), (0.92, 0.19), (1, 0.17)),
        ((0, 1, "contents"), (0, 0.195, "cap")),
        (0.38, 0.92),
    ),
    "flask": Round(
        ((0, 0.11), (0.15, 0.12), (0.15, 0.16), (0.2, 0.2), (0.28, 0.215), (0.8, 0.205), (1, 0.175)),
        ((0, 1, "body"), (0, 0.155, "cap")),
        (0.24, 0.93),
        tilt=0.06,
    ),
    "can": Round(
        ((0, 0.225), (0.03, 0.235), (0.035, 0.225), (0.09, 0.265), (0.91, 0.265), (0.97, 0.235), (1, 0.225)),
        ((0, 1, "metal"),),
        (0.07, 0.94),
        tilt=0.16,
        gloss="metal",
    ),
    "slim can": Round(
        ((0, 0.15), (0.025, 0.16), (0.03, 0.15), (0.08, 0.185), (0.93, 0.185), (0.98, 0.16), (1, 0.155)),
        ((0, 1, "metal"),),
        (0.06, 0.95),
        tilt=0.14,
        gloss="metal",
    ),
    "tin": Round(
        ((0, 0.40), (0.03, 0.41), (0.05, 0.395), (0.95, 0.395), (0.97, 0.41), (1, 0.40)),
        ((0, 1, "metal"),),
        (0.08, 0.92),
        tilt=0.2,
        gloss="metal",
    ),
    "jar": Round(
        ((0, 0.29), (0.16, 0.3), (0.16, 0.28), (0.2, 0.28), (0.3, 0.345), (0.92, 0.345), (1, 0.31)),
        ((0, 1, "contents"), (0, 0.165, "cap")),
        (0.32, 0.90),
        tilt=0.16,
        gloss="glass",
    ),
    "tub": Round(
        ((0, 0.5), (0.13, 0.505), (0.13, 0.485), (0.95, 0.41), (1, 0.4)),
        ((0, 1, "body"), (0, 0.135, "cap")),
        (0.17, 0.96),
        tilt=0.18,
    ),
    "cup": Round(
        ((0, 0.36), (0.035, 0.37), (0.05, 0.335), (0.95, 0.27), (1, 0.26)),
        ((0, 1, "body"), (0, 0.045, "foil")),
        (0.09, 0.95),
        tilt=0.22,
    ),
    "canister": Round(
        ((0, 0.225), (0.06, 0.23), (0.06, 0.215), (0.98, 0.215), (1, 0.22)),
        ((0, 1, "metal"), (0, 0.065, "cap")),
        (0.075, 0.965),
        tilt=0.16,
    ),
    "pump": Round(
        ((0.04, 0.02), (0.17, 0.02), (0.17, 0.08), (0.25, 0.085), (0.25, 0.14), (0.3, 0.19), (0.96, 0.19), (1, 0.17)),
        ((0, 1, "body"), (0, 0.255, "cap")),
        (0.33, 0.94),
        parts=(("cap", _PUMP, False),),
    ),
    "spray": Round(
        ((0.1, 0.06), (0.19, 0.07), (0.19, 0.06), (0.25, 0.075), (0.42, 0.17), (0.95, 0.175), (1, 0.16)),
        ((0, 1, "contents"), (0, 0.195, "cap")),
        (0.44, 0.93),
        parts=(("cap", _TRIGGER, False),),
    ),
    "aerosol": Round(
        ((0, 0.09), (0.03, 0.125), (0.18, 0.135), (0.18, 0.125), (0.23, 0.165), (0.97, 0.165), (1, 0.155)),
        ((0, 1, "metal"), (0, 0.185, "cap")),
        (0.25, 0.96),
        gloss="metal",
    ),
    "tube": Round(
        ((0, 0.205), (0.06, 0.205), (0.6, 0.19), (0.8, 0.165), (0.83, 0.11), (0.835, 0.115), (1, 0.11)),
        ((0, 1, "body"), (0, 0.055, "crimp"), (0.83, 1, "cap")),
        (0.06, 0.79),
        tilt=0.03,
    ),
    "jug": Round(
        ((0, 0.075), (0.09, 0.08), (0.09, 0.065), (0.14, 0.075), (0.26, 0.19), (0.34, 0.215), (0.96, 0.215), (1, 0.19)),
        ((0, 1, "body"), (0, 0.095, "cap")),
        (0.36, 0.93),
        parts=(("body", _HANDLE, True), ("hole", _HANDLE_HOLE, True)),
    ),
    "carton": Boxed(0.40, 0.13, roof=0.2),
    "brik": Boxed(0.46, 0.13, straw=True),
    "box": Boxed(0.62, 0.15),
    "wide box": Boxed(1.15, 0.2),
    "pouch": Soft(0.70, "pouch", 0.6),
    "pillow bag": Soft(0.72, "pillow", 1.0),
    "sachet": Soft(0.74, "sachet", 0.35),
    "sack": Soft(0.62, "sack", 0.45),
    "bar": Soft(2.3, "bar", 0.8),
    "blister": Carded(0.66),
}
