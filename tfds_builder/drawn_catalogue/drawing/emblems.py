"""The marks that tell the SKUs of a family apart: shapes as polygons, no two of them mirror images of one another."""

import functools
import math

import cv2
import numpy as np

_SHIFT = 4  # OpenCV's fixed-point bits: polygons keep a sixteenth of a pixel


@functools.cache
def emblem_polygons(name: str) -> tuple[np.ndarray, ...]:
    """Polygons, float64[n, 2] (x right, y down) within the unit disc, that together make the emblem `name`."""
    build = _BUILDERS.get(name)
    if build is None:
        raise ValueError(f"unknown emblem {name!r}; there are: {', '.join(sorted(_BUILDERS))}")
    return tuple(np.asarray(polygon, dtype=np.float64) for polygon in build())


@functools.cache
def plate_polygon(name: str) -> np.ndarray:
    """Outline, float64[n, 2], of the plate `name` that an emblem sits on; it holds a disc of radius 0.8."""
    build = _PLATES.get(name)
    if build is None:
        raise ValueError(f"unknown plate {name!r}; there are: {', '.join(sorted(_PLATES))}")
    return np.asarray(build(), dtype=np.float64)


def fill(image: np.ndarray, polygon: np.ndarray, colour: tuple[int, ...]) -> None:
    """Fills a polygon, float[n, 2] in pixels, in place and antialiased."""
    points = np.round(polygon * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(image, [points], colour, lineType=cv2.LINE_AA, shift=_SHIFT)


def draw_emblem(
    image: np.ndarray, centre: tuple[float, float], radius: float, name: str, colour: tuple[int, ...]
) -> None:
    """Draws the emblem `name` in place: centre (x, y) and radius in pixels."""
    for polygon in emblem_polygons(name):
        fill(image, polygon * radius + np.asarray(centre), colour)


def _ring(number: int, radius: float = 1.0, start: float = -90.0, centre: tuple[float, float] = (0, 0)) -> list:
    angles = [math.radians(start + 360 * i / number) for i in range(number)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def _star(points: int, inner: float, outer: float = 1.0) -> list:
    corners = zip(_ring(points, outer), _ring(points, inner, -90 + 180 / points), strict=True)
    return [corner for pair in corners for corner in pair]


def _curve(function, start: float, stop: float, number: int = 24) -> list:
    return [function(start + (stop - start) * i / (number - 1)) for i in range(number)]


def _heart() -> list:
    def point(t: float) -> tuple[float, float]:
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        return x / 17, -y / 17

    return [_curve(point, 0, 2 * math.pi, 40)]


def _moon() -> list:
    outer = _curve(lambda a: (0.95 * math.cos(a), 0.95 * math.sin(a)), 0.9, 2 * math.pi - 0.9, 30)
    inner = _curve(lambda a: (0.32 + 0.72 * math.cos(a), 0.72 * math.sin(a)), 2 * math.pi - 1.35, 1.35, 30)
    return [outer + inner]


def _leaf() -> list:
    blade = _curve(lambda t: (0.85 * math.sin(t * math.pi) * 0.55, -1 + 1.7 * t), 0, 1)
    other = _curve(lambda t: (-0.85 * math.sin(t * math.pi) * 0.75, 0.7 - 1.7 * t), 0, 1)
    return [blade + other, [(-0.06, 0.5), (0.06, 0.5), (0.22, 1.0), (0.08, 1.0)]]


def _waves() -> list:
    def wave(height: float) -> list:
        upper = _curve(lambda t: (t, height + 0.14 * math.sin(t * 7)), -1, 1)
        return upper + [(x, y + 0.26) for x, y in reversed(upper)]

    return [wave(-0.75), wave(-0.13), wave(0.49)]


def _sun() -> list:
    rays = [
        [
            (math.cos(a - 0.16) * 0.66, math.sin(a - 0.16) * 0.66),
            (math.cos(a), math.sin(a)),
            (math.cos(a + 0.16) * 0.66, math.sin(a + 0.16) * 0.66),
        ]
        for a in (i * math.pi / 4 for i in range(8))
    ]
    return [_ring(28, 0.52), *rays]


def _flower() -> list:
    return [_ring(20, 0.4, centre=centre) for centre in _ring(5, 0.58)] + [_ring(20, 0.3)]


def _fish() -> list:
    body = _curve(lambda a: (0.18 + 0.78 * math.cos(a), 0.5 * math.sin(a)), 0, 2 * math.pi, 30)
    return [body, [(-0.35, 0), (-1.0, -0.55), (-0.8, 0), (-1.0, 0.55)]]


def _tree() -> list:
    tiers = [[(0, top), (width, top + 0.72), (-width, top + 0.72)] for top, width in ((-1, 0.5), (-0.6, 0.65))]
    return [*tiers, [(0, -0.2), (0.8, 0.62), (-0.8, 0.62)], [(-0.14, 0.6), (0.14, 0.6), (0.14, 1), (-0.14, 1)]]


_BUILDERS = {
    "sphere": lambda: [_ring(36, 0.68)],
    "star": lambda: [_star(5, 0.42)],
    "leaf": _leaf,
    "drop": lambda: [
        [(0, -1), *_curve(lambda a: (0.66 * math.cos(a), 0.3 + 0.66 * math.sin(a)), -0.45, math.pi + 0.45)]
    ],
    "hexagon": lambda: [_ring(6, 0.95)],
    "heart": _heart,
    "moon": _moon,
    "sun": _sun,
    "bolt": lambda: [[(0.2, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.25, 1), (0.62, -0.25), (0.08, -0.25), (0.5, -1)]],
    "peaks": lambda: [[(-1, 0.7), (-0.35, -0.55), (0.05, 0.1), (0.35, -0.3), (1, 0.7)]],
    "waves": _waves,
    "flower": _flower,
    "crown": lambda: [
        [(-0.9, 0.7), (-1, -0.6), (-0.45, 0), (0, -0.85), (0.45, 0), (1, -0.6), (0.9, 0.7)],
    ],
    "tree": _tree,
    "bars": lambda: [
        [(x, -y), (x + 0.42, -y), (x + 0.42, 0.85), (x, 0.85)] for x, y in ((-0.9, 0), (-0.21, 0.5), (0.48, 0.95))
    ],
    "clover": lambda: (
        [_ring(20, 0.44, centre=c) for c in ((0, -0.5), (0.48, 0.12), (-0.48, 0.12))]
        + [[(-0.1, 0), (0.1, 0), (0.24, 1), (-0.24, 1)]]
    ),
    "fish": _fish,
    "arrow": lambda: [[(0, -1), (0.85, -0.1), (0.34, -0.1), (0.34, 0.95), (-0.34, 0.95), (-0.34, -0.1), (-0.85, -0.1)]],
}
_PLATES = {
    "disc": lambda: _ring(40, 1.0),
    "ring": lambda: _ring(40, 1.0),
    "square": lambda: [(-0.92, -0.92), (0.92, -0.92), (0.92, 0.92), (-0.92, 0.92)],
    "shield": lambda: [
        (-0.95, -0.95),
        (0.95, -0.95),
        *_curve(lambda t: (0.95 * math.cos(t * math.pi / 2), 0.1 + 1.05 * math.sin(t * math.pi / 2)), 0, 1),
        *_curve(lambda t: (-0.95 * math.sin(t * math.pi / 2), 0.1 + 1.05 * math.cos(t * math.pi / 2)), 0, 1),
    ],
    "burst": lambda: _star(14, 0.88, 1.12),
    "diamond": lambda: _ring(4, 1.2),
}
