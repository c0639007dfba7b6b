"""What a drawn catalogue holds, decided before anything is drawn: classes, groups, counts, names, seeds.

The counts follow Products-10K (Bai et al., arXiv 2008.10545). With the official numbers of classes and images they meet
every published fact of its class histogram; with other numbers the same long tail is scaled.
"""

import dataclasses
import functools

import numpy as np

from tfds_builder.drawn_catalogue.drawing import design

OFFICIAL_CLASSES, OFFICIAL_GROUPS, OFFICIAL_TRAIN, OFFICIAL_TEST = 9_691, 360, 141_931, 55_376
# Number of classes with 2, 3, ... 81 train images. The published facts (minimum 2, median 12, mean 14.65, 95th
# percentile 35, maximum 81; 188 classes with 2, 1,784 with at most 4, 2,235 with at most 5, 2,743 with at least 20,
# 2,521 with more than 20; 141,931 images) hold exactly; between them the curve is ours: smooth, with a geometric tail.
OFFICIAL_HISTOGRAM = (
    *(188, 838, 758, 451, 466, 442, 419, 397, 376, 356, 338, 320, 303, 288, 273, 258, 245, 232, 222, 267),
    *(239, 213, 191, 171, 153, 136, 122, 109, 98, 87, 78, 70, 62, 56, 49, 41, 37, 32, 30, 27),
    *(25, 22, 20, 18, 17, 15, 14, 12, 11, 10, 9, 8, 7, 7, 3, 6, 5, 5, 4, 4),
    *(3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
)
# Of 6 test images a class, the rarest classes lack some: 188 lack 3, the next 1,039 lack 2 and 127 lack 1; one class of
# middling frequency lacks 1. These follow from the published counts of test images by train frequency.
OFFICIAL_TEST_SHORTFALL = ((188, 3), (1_039, 2), (127, 1))
SHOP_SHARE = 0.45
PUBLIC_SHARE = 0.3


@dataclasses.dataclass(frozen=True)
class CatalogueParameters:
    """The parameters of a drawn catalogue.

    Attributes:
      num_classes: SKUs, at least 2.
      num_groups: product groups, 1..num_classes.
      num_train, num_test: images; at least two a class in train, one in test.
      image_side: longer side of every image, pixels, 32..2048.
      seed: 0..2**63 - 1; another seed draws another catalogue.
    """

    num_classes: int
    num_groups: int
    num_train: int
    num_test: int
    image_side: int
    seed: int = 0


PRESETS: dict[str, CatalogueParameters] = {
    "tiny": CatalogueParameters(num_classes=6, num_groups=2, num_train=60, num_test=24, image_side=48),
    "demo": CatalogueParameters(num_classes=48, num_groups=12, num_train=3_600, num_test=960, image_side=128),
    "full": CatalogueParameters(OFFICIAL_CLASSES, OFFICIAL_GROUPS, OFFICIAL_TRAIN, OFFICIAL_TEST, image_side=64),
}


@dataclasses.dataclass(frozen=True)
class ImagePlan:
    """One image.

    Attributes:
      name: of its file.
      usage: '' in train, 'Public' or 'Private' in test.
      kind: 'shop' or 'customer'.
      seed: of everything that is left to chance in drawing it.
    """

    name: str
    usage: str
    kind: str
    seed: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ClassPlan:
    """One class: its `label` and `group` ids, `family` (a number over the catalogue), look and number of images."""

    label: int
    group: int
    family: int
    design: design.SkuDesign
    name: str
    num_train: int
    num_test: int


@dataclasses.dataclass(frozen=True)
class CataloguePlan:
    """All classes in order of label, and the names of all images in order of class.

    Attributes:
      parameters: what was asked for.
      classes: one entry a class, in order of label.
      group_names: group id -> name.
      test_names, test_usages: one entry a test image, in order of class.
    """

    parameters: CatalogueParameters
    classes: tuple[ClassPlan, ...]
    group_names: dict[int, str]
    test_names: tuple[str, ...]
    test_usages: tuple[str, ...]

    @functools.cached_property
    def _offsets(self) -> dict[str, np.ndarray]:
        counts = {"train": [c.num_train for c in self.classes], "test": [c.num_test for c in self.classes]}
        return {split: np.concatenate([[0], np.cumsum(number)]) for split, number in counts.items()}

    def images(self, split: str, label: int) -> tuple[ImagePlan, ...]:
        """The images of class `label` in `split` ('train' or 'test'), in the order of the split's CSV."""
        first, last = (int(offset) for offset in self._offsets[split][label : label + 2])
        stream = (self.parameters.seed, 1 if split == "train" else 2)
        kinds = _kinds(np.random.default_rng((*stream, label)), last - first)
        images = []
        for kind, index in zip(kinds, range(first, last), strict=True):
            name = f"{index + 1}.jpg" if split == "train" else self.test_names[index]
            usage = "" if split == "train" else self.test_usages[index]
            images.append(ImagePlan(name, usage, kind, (*stream, label, index)))
        return tuple(images)


def check_parameters(parameters: CatalogueParameters) -> None:
    """Raises ValueError, naming the parameter, its value and what is possible, unless a catalogue can be drawn."""
    p = parameters
    for field in dataclasses.fields(p):
        value = getattr(p, field.name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{field.name}={value!r}: a whole number is needed.")
    limits = {
        "num_classes": (2, 200_000, "a catalogue has from 2 to 200,000 classes"),
        "num_groups": (1, p.num_classes, f"every group holds at least one of the {p.num_classes} classes"),
        "num_train": (2 * p.num_classes, 999_999, "train holds at least 2 images a class and at most 999,999 images"),
        "num_test": (p.num_classes, 999_999, "test holds at least 1 image a class and at most 999,999 images"),
        "image_side": (32, 2_048, "the longer side is given in pixels"),
        "seed": (0, 2**63 - 1, "a seed is not negative and fits 63 bits"),
    }
    for name, (least, most, reason) in limits.items():
        value = getattr(p, name)
        if not least <= value <= most:
            raise ValueError(f"{name}={value} is out of range: {reason}; choose {least}..{most}.")


def plan(parameters: CatalogueParameters) -> CataloguePlan:
    """Plans a catalogue: a pure function of `parameters`.

    Raises:
      ValueError: a parameter is out of range (see `check_parameters`).
    """
    check_parameters(parameters)
    rng = np.random.default_rng((parameters.seed, 0))
    official = is_official(parameters)
    group_ids = [*range(359), 360] if official else list(range(parameters.num_groups))
    families = _families(rng, parameters.num_classes, parameters.num_groups, last_group=349 if official else None)
    train_counts = rng.permutation(train_histogram(parameters.num_classes, parameters.num_train))
    test_counts = test_histogram(train_counts, parameters.num_test)
    kinds = design.group_kinds(parameters.num_groups)
    designer = design.Designer(rng)
    classes = []
    for family, (group, size) in enumerate(families):
        for sku in designer.family(*kinds[group], size):
            label = len(classes)
            counts = int(train_counts[label]), int(test_counts[label])
            classes.append(ClassPlan(label, group_ids[group], family, sku, sku.name, *counts))
    return CataloguePlan(
        parameters=parameters,
        classes=tuple(classes),
        group_names={group_ids[i]: "-".join(kind).replace(" ", "-").title() for i, kind in enumerate(kinds)},
        test_names=_test_names(rng, parameters.num_test),
        test_usages=_usages(rng, parameters.num_test),
    )


def is_official(parameters: CatalogueParameters) -> bool:
    """Whether the numbers of classes, groups and images are those of Products-10K."""
    p = parameters
    numbers = (p.num_classes, p.num_groups, p.num_train, p.num_test)
    return numbers == (OFFICIAL_CLASSES, OFFICIAL_GROUPS, OFFICIAL_TRAIN, OFFICIAL_TEST)


def train_histogram(num_classes: int, num_train: int) -> np.ndarray:
    """Train images per class, int64[num_classes] ascending, at least 2, summing to `num_train`.

    The official quantile function, scaled so that the sum is met: a long tail, as in the original.
    """
    official = np.repeat(np.arange(2, 2 + len(OFFICIAL_HISTOGRAM)), OFFICIAL_HISTOGRAM)
    if (num_classes, num_train) == (OFFICIAL_CLASSES, OFFICIAL_TRAIN):
        return official
    quantiles = (np.arange(num_classes) + 0.5) / num_classes * len(official) - 0.5
    shape = np.interp(quantiles, np.arange(len(official)), official)
    low, high = 0.0, float(num_train)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(2, shape * middle).sum() < num_train else (low, middle)
    exact = np.maximum(2, shape * low)
    counts = np.floor(exact).astype(np.int64)
    # The largest remainders get what rounding down left over; both sequences ascend, so the order is kept by sorting.
    missing = num_train - int(counts.sum())
    counts[np.argsort(-(exact - counts), kind="stable")[:missing]] += 1
    return np.sort(counts)


def test_histogram(train_counts: np.ndarray, num_test: int) -> np.ndarray:
    """Test images per class, int64[num_classes]: nearly the same for all; the classes rarest in train lack some."""
    num_classes = len(train_counts)
    by_rarity = np.argsort(train_counts, kind="stable")
    counts = np.full(num_classes, -(-num_test // num_classes), dtype=np.int64)
    if (num_classes, int(train_counts.sum()), num_test) == (OFFICIAL_CLASSES, OFFICIAL_TRAIN, OFFICIAL_TEST):
        start = 0
        for number, lack in OFFICIAL_TEST_SHORTFALL:
            counts[by_rarity[start : start + number]] -= lack
            start += number
        counts[by_rarity[np.searchsorted(train_counts[by_rarity], 6)]] -= 1
        return counts
    counts[by_rarity[: int(counts.sum()) - num_test]] -= 1
    return counts


def _families(
    rng: np.random.Generator, num_classes: int, num_groups: int, last_group: int | None
) -> list[tuple[int, int]]:
    """(group index, number of SKUs) of every family, in order of class.

    A family has 3 to 6 SKUs (fewer where there are fewer than three classes a group). The first family is of group 0.
    """
    number = max(num_groups, min(round(num_classes / 4.4), num_classes // 3))
    sizes = np.full(number, min(3, num_classes // number))
    while (left := num_classes - int(sizes.sum())) > 0:
        open_families = rng.permutation(np.flatnonzero(sizes < max(6, sizes.min() + 1)))
        sizes[open_families[: min(left, (len(open_families) + 1) // 2)]] += 1
    # Groups differ in size, as departments of a shop do: the rest of the families falls by weights of a long tail.
    weights = rng.gamma(1.5, size=num_groups)
    extra = rng.choice(num_groups, size=number - num_groups, p=weights / weights.sum())
    groups = rng.permutation(np.concatenate([np.arange(num_groups), extra]))
    first = int(np.flatnonzero(groups == 0)[0])
    groups[[0, first]] = groups[[first, 0]]
    if last_group is not None:
        last = int(np.flatnonzero(groups == last_group)[0])
        groups[[-1, last]] = groups[[last, -1]]
    return [(int(group), int(size)) for group, size in zip(groups, sizes, strict=True)]


def _kinds(rng: np.random.Generator, number: int) -> list[str]:
    """Shop and customer photos in their shares, mixed; the shares hold within every class as far as numbers allow."""
    shop = int(SHOP_SHARE * number + rng.random())
    kinds = np.array(["shop"] * shop + ["customer"] * (number - shop))
    return [str(kind) for kind in rng.permutation(kinds)]


def _test_names(rng: np.random.Generator, number: int) -> tuple[str, ...]:
    """Distinct names of seven digits, which no train image has."""
    return tuple(f"{int(name)}.jpg" for name in rng.choice(9_000_000, size=number, replace=False) + 1_000_000)


def _usages(rng: np.random.Generator, number: int) -> tuple[str, ...]:
    public = round(PUBLIC_SHARE * number)
    return tuple("Public" if position < public else "Private" for position in rng.permutation(number))
