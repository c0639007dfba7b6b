"""Names of builder configs: a small grammar in which the name determines the prepared data, and the data the name.

    SIZE[-testP][-holdoutKofN | -holdout0][-seedS]           products10k, sku_catalogue
    DRAWN[-SIZE][-holdoutKofN | -holdout0][-holdoutseedS]    drawn_catalogue

- SIZE: `original` (bytes untouched) or the shorter side in pixels.
- `testP`: P percent of each class become test; only for a folder tree without a test split.
- `holdoutKofN`: K pictures of each class with at least N training pictures become validation; `holdout0`: none do.
- `seedS` (`holdoutseedS` where SEED is already the drawing's): seed of these draws.
- DRAWN: a preset, or `classesC-groupsG-trainT-testE-sideP-seedS`.

For example `original`, `256`, `384-holdout2of20-seed1`; `demo`, `tiny-256`.

Parts that say the default are left out, so that one dataset has one name.
"""

import dataclasses
import re

import tensorflow_datasets as tfds

from tfds_builder.drawn_catalogue import plan
from tfds_builder.raw import DEFAULT_TEST_PERCENT

# One picture of each class with at least 5: every such class counts alike in the choice of a model, none loses more
# than a fifth of its pictures, and Products-10K gives 7,907 pictures: a top-1 with a standard error of 0.5 %.
DEFAULT_HOLDOUT = (1, 5)
LISTED_SIZES = (0, 256, 384, 512)
_SIDES = (32, 4096)

_HOLDOUT = r"(?:-holdout(?:(?P<none>0)|(?P<take>[0-9]+)of(?P<least>[0-9]+)))?"
_RAW_NAME = re.compile(
    r"(?P<size>original|[0-9]+)(?:-test(?P<test>[0-9]+))?" + _HOLDOUT + r"(?:-seed(?P<seed>[0-9]+))?"
)
_DRAWN_NAME = re.compile(
    r"(?P<drawn>[a-z]+|classes[0-9]+-groups[0-9]+-train[0-9]+-test[0-9]+-side[0-9]+-seed[0-9]+)"
    r"(?:-(?P<size>original|[0-9]+))?" + _HOLDOUT + r"(?:-holdoutseed(?P<seed>[0-9]+))?"
)


class UnknownConfigError(ValueError):
    """A config name outside the grammar; the message lists what is known."""


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What is done to a raw catalogue.

    Attributes:
      shorter_side: pixels; 0 keeps the original bytes.
      holdout_take: validation pictures a class; 0 for no validation split.
      holdout_least: smallest number of training pictures of a class that gives some.
      test_percent: for a folder tree without test pictures; None for the default.
      seed: of the draws.
    """

    shorter_side: int = 0
    holdout_take: int = DEFAULT_HOLDOUT[0]
    holdout_least: int = DEFAULT_HOLDOUT[1]
    test_percent: int | None = None
    seed: int = 0

    def __post_init__(self):
        if not self.holdout_take:
            object.__setattr__(self, "holdout_least", 0)
        if self.test_percent == DEFAULT_TEST_PERCENT:
            object.__setattr__(self, "test_percent", None)
        low, high = _SIDES
        if self.shorter_side and not low <= self.shorter_side <= high:
            raise UnknownConfigError(f"shorter side {self.shorter_side} is outside {low}..{high} pixels")
        if self.holdout_take and not self.holdout_take < self.holdout_least:
            raise UnknownConfigError(
                f"holdout{self.holdout_take}of{self.holdout_least} would take all training pictures of a class: K must "
                "be below N"
            )
        if self.test_percent is not None and not 1 <= self.test_percent <= 90:
            raise UnknownConfigError(f"test{self.test_percent} is outside 1..90 percent")


@dataclasses.dataclass(kw_only=True, eq=False)
class CatalogueConfig(tfds.core.BuilderConfig):
    """A TFDS builder config; `name` says all that `preparation` and `drawn` do."""

    preparation: Preparation = Preparation()
    drawn: plan.CatalogueParameters | None = None


def raw_name(preparation: Preparation) -> str:
    """The name of a config of products10k and sku_catalogue."""
    test = f"-test{preparation.test_percent}" if preparation.test_percent is not None else ""
    return _size(preparation) + test + _holdout(preparation) + _seed(preparation, "seed")


def drawn_name(drawn: plan.CatalogueParameters, preparation: Preparation) -> str:
    """The name of a config of drawn_catalogue."""
    preset = next((name for name, parameters in plan.PRESETS.items() if parameters == drawn), None)
    name = preset or (
        f"classes{drawn.num_classes}-groups{drawn.num_groups}-train{drawn.num_train}-test{drawn.num_test}"
        f"-side{drawn.image_side}-seed{drawn.seed}"
    )
    size = f"-{preparation.shorter_side}" if preparation.shorter_side else ""
    return name + size + _holdout(preparation) + _seed(preparation, "holdoutseed")


def raw_config(name: str) -> CatalogueConfig:
    """The config of products10k or sku_catalogue with this name. Raises UnknownConfigError."""
    match = _RAW_NAME.fullmatch(name)
    if match is None:
        raise UnknownConfigError(_unknown(name, [raw_name(Preparation(size)) for size in LISTED_SIZES], _RAW_GRAMMAR))
    preparation = _preparation(name, match, int(match["test"]) if match["test"] else None)
    _assert_canonical(name, raw_name(preparation))
    return CatalogueConfig(name=name, description=describe(preparation), preparation=preparation)


def drawn_config(name: str) -> CatalogueConfig:
    """The config of drawn_catalogue with this name. Raises UnknownConfigError."""
    match = _DRAWN_NAME.fullmatch(name)
    if match is None or (match["drawn"] not in plan.PRESETS and not match["drawn"].startswith("classes")):
        raise UnknownConfigError(_unknown(name, list(plan.PRESETS), _DRAWN_GRAMMAR))
    preparation = _preparation(name, match, None)
    drawn = plan.PRESETS.get(match["drawn"])
    if drawn is None:
        numbers = map(int, re.findall(r"[0-9]+", match["drawn"]))
        fields = ("num_classes", "num_groups", "num_train", "num_test", "image_side", "seed")
        drawn = plan.CatalogueParameters(**dict(zip(fields, numbers, strict=True)))
        try:
            plan.check_parameters(drawn)
        except ValueError as error:
            raise UnknownConfigError(f"config {name!r}: {error}") from None
    _assert_canonical(name, drawn_name(drawn, preparation))
    return CatalogueConfig(name=name, description=describe(preparation), preparation=preparation, drawn=drawn)


def describe(preparation: Preparation) -> str:
    """One sentence on what a config holds."""
    size = f"Shorter side {preparation.shorter_side} pixels" if preparation.shorter_side else "Original bytes"
    if not preparation.holdout_take:
        return f"{size}; no validation split."
    return (
        f"{size}; validation holds {preparation.holdout_take} picture(s) of each class with at least "
        f"{preparation.holdout_least} training pictures."
    )


_RAW_GRAMMAR = (
    "SIZE[-testP][-holdoutKofN][-seedS] with SIZE `original` or the shorter side in pixels, e.g. 256-holdout2of20-seed1"
)
_DRAWN_GRAMMAR = (
    "DRAWN[-SIZE][-holdoutKofN][-holdoutseedS] with DRAWN a preset or classesC-groupsG-trainT-testE-sideP-seedS, "
    "e.g. demo-256 or classes40-groups8-train1200-test240-side96-seed0"
)


def _preparation(name: str, match: re.Match, test_percent: int | None) -> Preparation:
    size = match["size"]
    take, least = (0, 0) if match["none"] else DEFAULT_HOLDOUT
    if match["take"]:
        take, least = int(match["take"]), int(match["least"])
    try:
        return Preparation(
            shorter_side=0 if size in (None, "original") else int(size),
            holdout_take=take,
            holdout_least=least,
            test_percent=test_percent,
            seed=int(match["seed"] or 0),
        )
    except UnknownConfigError as error:
        raise UnknownConfigError(f"config {name!r}: {error}") from None


def _size(preparation: Preparation) -> str:
    return str(preparation.shorter_side) if preparation.shorter_side else "original"


def _holdout(preparation: Preparation) -> str:
    if not preparation.holdout_take:
        return "-holdout0"
    pair = (preparation.holdout_take, preparation.holdout_least)
    return "" if pair == DEFAULT_HOLDOUT else f"-holdout{pair[0]}of{pair[1]}"


def _seed(preparation: Preparation, word: str) -> str:
    return f"-{word}{preparation.seed}" if preparation.seed else ""


def _unknown(name: str, listed: list[str], grammar: str) -> str:
    return f"unknown config {name!r}; known: {', '.join(listed)}, and any name of the form {grammar}"


def _assert_canonical(name: str, canonical: str) -> None:
    if name != canonical:
        raise UnknownConfigError(f"config {name!r} is written {canonical!r}: parts that say the default are left out")
