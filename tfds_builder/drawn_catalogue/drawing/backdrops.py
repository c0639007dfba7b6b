"""What lies behind and around a product in a customer's photo: surfaces, rooms, and products of nobody's catalogue.

Textures are drawn once a process and number and then cut, turned and tinted; each is a pure function of its number, so
that a picture does not depend on which process draws it.
"""

import functools
import itertools

import cv2
import numpy as np

from tfds_builder.drawn_catalogue.drawing import containers, design, product

SIDE = 256
SURFACES = ("wood", "tiles", "cloth", "marble", "concrete", "carpet", "brick", "paper")
NUM_SURFACES = 5 * len(SURFACES)
NUM_ROOMS = 16
NUM_STRANGERS = 40


def _noise(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Smooth noise, float32[SIDE, SIDE], roughly standard normal at the scale of `rows` by `columns` cells."""
    cells = rng.standard_normal((rows, columns)).astype(np.float32)
    return cv2.resize(cells, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


@functools.lru_cache(maxsize=NUM_SURFACES)
def surface(number: int) -> np.ndarray:
    """Texture `number` of a table, wall or floor: float32[SIDE, SIDE, 3], RGB 0..255."""
    number %= NUM_SURFACES
    rng = np.random.default_rng((number, 21))
    kind = SURFACES[number % len(SURFACES)]
    image = _PAINTERS[kind](rng)
    return np.clip(image, 0, 255).astype(np.float32)


def _wood(rng: np.random.Generator) -> np.ndarray:
    colours = ((186, 140, 92), (142, 96, 60), (214, 182, 140), (104, 70, 48), (170, 150, 128))
    base = np.float32(colours[rng.integers(len(colours))])
    planks = int(rng.integers(3, 7))
    image = np.empty((SIDE, SIDE, 3), np.float32)
    edges = np.linspace(0, SIDE, planks + 1).astype(int)
    for first, last in itertools.pairwise(edges):
        grain = 0.07 * _noise(rng, 70, 3) + 0.05 * _noise(rng, 140, 6) + 0.05 * _noise(rng, 8, 3)
        image[first:last] = (base * rng.uniform(0.88, 1.1) * (1 + grain[..., None]))[first:last]
        image[first : first + 2] *= 0.55
    return image


def _tiles(rng: np.random.Generator) -> np.ndarray:
    colours = ((232, 230, 224), (140, 170, 180), (206, 186, 160), (90, 100, 110), (236, 206, 190))
    base = np.float32(colours[rng.integers(len(colours))])
    cell = int(rng.integers(38, 86))
    row, column = np.mgrid[:SIDE, :SIDE]
    shift = (row // cell % 2) * (cell // 2) if rng.random() < 0.5 else 0
    tones = rng.uniform(0.9, 1.07, (9, 14))
    image = base * (tones[row // cell, (column + shift) // cell] * (1 + 0.02 * _noise(rng, 40, 40)))[..., None]
    joint = ((row % cell) < 3) | (((column + shift) % cell) < 3)
    image[joint] = np.float32((196, 194, 188)) * rng.uniform(0.5, 1.0)
    return image


def _cloth(rng: np.random.Generator) -> np.ndarray:
    base, other = (rng.uniform(60, 235, 3).astype(np.float32) for _ in range(2))
    row, column = np.mgrid[:SIDE, :SIDE]
    weave = 0.05 * np.sin(row * 1.6) * np.sin(column * 1.6)
    pitch = int(rng.integers(24, 64))
    stripe = ((column % pitch) < pitch // 3).astype(np.float32)
    if rng.random() < 0.5:
        stripe = 0.5 * (stripe + ((row % pitch) < pitch // 3))
    image = base + (other - base) * (0.6 * stripe * rng.uniform(0, 1))[..., None]
    folds = 0.09 * _noise(rng, 5, 4)
    return image * (1 + weave + folds)[..., None]


def _marble(rng: np.random.Generator) -> np.ndarray:
    base = np.float32((236, 234, 230)) if rng.random() < 0.6 else np.float32((70, 74, 78))
    vein = np.abs(_noise(rng, 7, 6) + 0.5 * _noise(rng, 17, 15))
    return base * (1 - 0.3 * np.exp(-vein / 0.09) + 0.03 * _noise(rng, 5, 5))[..., None]


def _concrete(rng: np.random.Generator) -> np.ndarray:
    base = np.float32((176, 174, 170)) * rng.uniform(0.6, 1.2)
    mottled = 0.06 * _noise(rng, 9, 9) + 0.04 * _noise(rng, 40, 40) + 0.03 * rng.standard_normal((SIDE, SIDE))
    return base * (1 + mottled)[..., None]


def _carpet(rng: np.random.Generator) -> np.ndarray:
    base = rng.uniform(50, 200, 3).astype(np.float32)
    pile = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)).astype(np.float32), (0, 0), 1.2)
    return base * (1 + 0.35 * pile + 0.06 * _noise(rng, 6, 6))[..., None]


def _brick(rng: np.random.Generator) -> np.ndarray:
    base = np.float32((176, 96, 74)) if rng.random() < 0.5 else np.float32((222, 216, 208))
    high, wide = 26, 62
    row, column = np.mgrid[:SIDE, :SIDE]
    column = column + (row // high % 2) * (wide // 2)
    tones = rng.uniform(0.82, 1.12, (12, 8))
    image = base * (tones[row // high, column // wide] * (1 + 0.05 * _noise(rng, 60, 60)))[..., None]
    image[((row % high) < 3) | ((column % wide) < 3)] = np.float32((206, 200, 190)) * rng.uniform(0.7, 1)
    return image


def _paper(rng: np.random.Generator) -> np.ndarray:
    base = rng.uniform(150, 245, 3).astype(np.float32)
    return base * (1 + 0.05 * _noise(rng, 3, 3) + 0.012 * rng.standard_normal((SIDE, SIDE)))[..., None]


_PAINTERS = {
    "wood": _wood,
    "tiles": _tiles,
    "cloth": _cloth,
    "marble": _marble,
    "concrete": _concrete,
    "carpet": _carpet,
    "brick": _brick,
    "paper": _paper,
}


@functools.lru_cache(maxsize=NUM_ROOMS)
def room(number: int) -> np.ndarray:
    """A room out of focus, float32[SIDE, SIDE, 3]: furniture as soft blocks, lamps as discs of light."""
    rng = np.random.default_rng((number % NUM_ROOMS, 22))
    image = np.empty((SIDE, SIDE, 3), np.float32)
    image[:] = rng.uniform(70, 210) * rng.uniform(0.9, 1.1, 3)
    for _ in range(int(rng.integers(8, 16))):
        x, y = rng.integers(-40, SIDE, 2)
        size = rng.integers(30, 120, 2)
        colour = tuple(float(v) for v in rng.uniform(30, 230) * rng.uniform(0.75, 1.2, 3))
        cv2.rectangle(image, (int(x), int(y)), (int(x + size[0]), int(y + size[1])), colour, -1)
    image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(7, 13)))
    for _ in range(int(rng.integers(0, 9))):
        light = np.zeros((SIDE, SIDE), np.float32)
        centre = tuple(int(v) for v in rng.integers(0, SIDE, 2))
        cv2.circle(light, centre, int(rng.integers(7, 22)), 1.0, -1, cv2.LINE_AA)
        image += (cv2.GaussianBlur(light, (0, 0), 1.5) * rng.uniform(25, 80))[..., None] * np.float32((1, 0.9, 0.7))
    return np.clip(image, 0, 255)


@functools.lru_cache(maxsize=NUM_STRANGERS)
def stranger(number: int) -> np.ndarray:
    """A product that belongs to no class, as `product.render_product` gives it, 160 pixels long."""
    number %= NUM_STRANGERS
    rng = np.random.default_rng((number, 23))
    container = list(containers.CONTAINERS)[number % len(containers.CONTAINERS)]
    sku = design.Designer(rng).family("Other", container, 3)[0]
    return product.render_product(sku, 160)
