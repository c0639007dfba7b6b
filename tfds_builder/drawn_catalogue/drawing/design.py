"""What a drawn product looks like, as plain values: a family's shared look and what sets one SKU of it apart."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from tfds_builder.drawn_catalogue.drawing import vocabulary

Colour = tuple[int, int, int]

TEMPLATES = ("plain", "split", "window", "frame", "rays", "sash", "panel", "halves")
PATTERNS = ("none", "stripes", "dots", "checks", "fade", "leaves", "zigzag", "rings")
BRAND_STYLES = ("pill", "ribbon", "bare", "block", "underline")
ARRANGEMENTS = ("top", "upper", "middle", "lower", "bottom")
BAND_SHAPES = ("straight", "wave", "arc", "points", "double")
PLATES = ("disc", "square", "shield", "burst", "ring", "diamond")
EMBLEMS = (
    "sphere",
    "star",
    "leaf",
    "drop",
    "hexagon",
    "heart",
    "moon",
    "sun",
    "bolt",
    "peaks",
    "waves",
    "flower",
    "crown",
    "tree",
    "bars",
    "clover",
    "fish",
    "arrow",
)


@dataclasses.dataclass(frozen=True)
class FamilyDesign:
    """What the SKUs of a family share.

    Attributes:
      brand, product, container: names; `container` is a key of `containers.CONTAINERS`.
      ground, second, ink: RGB, 0..255: label ground, label's second colour, lettering.
      body, cap: RGB: material of the container and of its lid.
      template, pattern, brand_style: names of label layouts (`TEMPLATES`, `PATTERNS`, `BRAND_STYLES`).
      seed: of whatever small detail is left to chance but shared by the family.
      coloured_cap: whether the cap takes the SKU's trim colour.
    """

    brand: str
    product: str
    container: str
    ground: Colour
    second: Colour
    ink: Colour
    body: Colour
    cap: Colour
    template: str
    pattern: str
    brand_style: str
    seed: int
    coloured_cap: bool


@dataclasses.dataclass(frozen=True)
class SkuDesign:
    """One SKU: its family and the small things in which it differs from the others of the family.

    Attributes:
      family: the shared look.
      flavour, size: words on the label and in the name.
      colour, mark, trim: RGB of the band, of the emblem, and of fine lines and coloured caps. The SKUs of a family
        share three colours and differ in which goes where, so that the sum of a picture's colours tells little.
      arrangement: where the band lies (`ARRANGEMENTS`). Heights only: training flips pictures left to right.
      band, emblem, plate: shapes (`BAND_SHAPES`, `EMBLEMS`, `PLATES`).
      proportion: width of the container relative to the family's, about 0.85..1.15.
    """

    family: FamilyDesign
    flavour: str
    size: str
    colour: Colour
    mark: Colour
    trim: Colour
    arrangement: str
    band: str
    emblem: str
    plate: str
    proportion: float

    @property
    def name(self) -> str:
        """`Brand-Product-Flavour-Size`, words joined by hyphens."""
        return "-".join((self.family.brand, self.family.product, self.flavour, self.size)).replace(" ", "-")


def group_kinds(number: int) -> list[tuple[str, str]]:
    """The first `number` pairs (product noun, container), varied: neighbours differ in container and in noun.

    Beyond the pairs that the vocabulary holds, nouns get a number (`Rice 2`).
    """
    columns = []
    for nouns, containers in vocabulary.PRODUCTS:
        columns.append([(noun, containers[(i + shift) % 4]) for shift in range(4) for i, noun in enumerate(nouns)])
    rounds = itertools.zip_longest(*columns)
    kinds = [kind for row in rounds for kind in row if kind is not None]
    return [
        (kinds[i % len(kinds)][0] + (f" {i // len(kinds) + 1}" if i >= len(kinds) else ""), kinds[i % len(kinds)][1])
        for i in range(number)
    ]


def colour_distance(first: Colour, second: Colour) -> float:
    """A cheap perceptual distance of two RGB colours ("redmean", after T. Riemersma), 0..765."""
    mean_red = (first[0] + second[0]) / 2
    red, green, blue = (a - b for a, b in zip(first, second, strict=True))
    return ((2 + mean_red / 256) * red**2 + 4 * green**2 + (2 + (255 - mean_red) / 256) * blue**2) ** 0.5


class Designer:
    """Designs families, one after the other.

    Palettes, templates and patterns are dealt like cards: none comes again before all have been dealt, so that even a
    small catalogue is varied. No two families share brand and product.

    Args:
      rng: the source of all chance.
    """

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._taken: set[tuple[str, str]] = set()
        self._palettes = _deal(rng, vocabulary.PALETTES)
        self._templates = _deal(rng, TEMPLATES)
        self._patterns = _deal(rng, PATTERNS)
        self._brand_styles = _deal(rng, BRAND_STYLES)

    def family(self, product: str, container: str, size: int) -> list[SkuDesign]:
        """Designs `size` look-alike SKUs of a product in a container."""
        rng = self._rng
        family = self._family_design(product, container)
        varieties = _choose_varieties(rng, family.ground, size)
        shapes = [_choose(rng, names, size) for names in (ARRANGEMENTS, BAND_SHAPES, EMBLEMS, PLATES)]
        liquid = any(word in product for word in vocabulary.LIQUIDS)
        sizes = vocabulary.VOLUMES if liquid else vocabulary.WEIGHTS
        first_size = int(rng.integers(len(sizes) - 2))
        skus = []
        for (flavour, colour, mark, trim), arrangement, band, emblem, plate in zip(varieties, *shapes, strict=True):
            step = int(rng.integers(3))
            skus.append(
                SkuDesign(
                    family=family,
                    flavour=flavour,
                    size=sizes[first_size + step],
                    colour=colour,
                    mark=mark,
                    trim=trim,
                    arrangement=arrangement,
                    band=band,
                    emblem=emblem,
                    plate=plate,
                    proportion=round(0.92 + 0.08 * step + float(rng.uniform(-0.02, 0.02)), 3),
                )
            )
        return skus

    def _family_design(self, product: str, container: str) -> FamilyDesign:
        rng = self._rng
        ground, second, ink = next(self._palettes)
        ground, second = _jitter(rng, ground, 10), _jitter(rng, second, 14)
        pale = colour_distance(ground, (255, 255, 255)) < 140
        body = [ground, second, (246, 246, 244), (196, 202, 208)][rng.integers(4)]
        cap = [ink, second, (248, 248, 246), (44, 46, 52), (206, 52, 48), (38, 92, 168)][rng.integers(6)]
        return FamilyDesign(
            brand=self._brand(product),
            product=product,
            container=container,
            ground=ground,
            second=second,
            ink=ink,
            body=_jitter(rng, body, 8),
            cap=ink if pale and cap == (248, 248, 246) else cap,
            template=next(self._templates),
            pattern=next(self._patterns),
            brand_style=next(self._brand_styles),
            seed=int(rng.integers(2**31)),
            coloured_cap=bool(rng.random() < 0.3),
        )

    def _brand(self, product: str) -> str:
        rng = self._rng
        while True:
            parts = [vocabulary.BRAND_STARTS[rng.integers(len(vocabulary.BRAND_STARTS))]]
            if rng.random() < 0.7:
                parts.append(vocabulary.BRAND_MIDDLES[rng.integers(len(vocabulary.BRAND_MIDDLES))])
            parts.append(vocabulary.BRAND_ENDS[rng.integers(len(vocabulary.BRAND_ENDS))])
            brand = "".join(parts)
            if (brand, product) not in self._taken:
                self._taken.add((brand, product))
                return brand


def _deal(rng: np.random.Generator, cards: tuple) -> Iterator:
    """Deals `cards` in random order, for ever, reshuffled when all have been dealt."""
    while True:
        for i in rng.permutation(len(cards)):
            yield cards[i]


def _choose(rng: np.random.Generator, names: tuple[str, ...], number: int) -> list[str]:
    """`number` names, without repetition while the supply lasts."""
    chosen: list[str] = []
    while len(chosen) < number:
        chosen += [names[i] for i in rng.permutation(len(names))]
    return chosen[:number]


def _choose_varieties(
    rng: np.random.Generator, ground: Colour, number: int
) -> list[tuple[str, Colour, Colour, Colour]]:
    """(flavour, band colour, emblem colour, trim colour) for every SKU of a family, no two alike."""
    order = rng.permutation(len(vocabulary.FLAVOURS))
    for least in (210, 170, 130, 90, 0):
        shades: list[int] = []
        for index in order:
            others = [ground] + [vocabulary.FLAVOURS[other][0][1] for other in shades]
            if all(colour_distance(vocabulary.FLAVOURS[index][0][1], other) >= least for other in others):
                shades.append(int(index))
        if len(shades) >= min(number, len(order)):
            break
    own = [vocabulary.FLAVOURS[shades[i % len(shades)]] for i in range(number)]
    chosen = [shade[int(rng.integers(len(shade)))] for shade in own]
    return [(*chosen[i], chosen[(i + 1) % number][1], chosen[(i + 2) % number][1]) for i in range(number)]


def _jitter(rng: np.random.Generator, colour: Colour, amount: int) -> Colour:
    moved = np.clip(np.asarray(colour) + rng.integers(-amount, amount + 1, size=3), 0, 255)
    return int(moved[0]), int(moved[1]), int(moved[2])
