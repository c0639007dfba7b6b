"""The published facts of Products-10K, counted on the owner's tables, and the check of a catalogue against them."""

from collections.abc import Sequence

import numpy as np

OTHER_BUILDER = "sku_catalogue (python -m tfds_builder.build sku_catalogue)"

# Sources: the owner's page and counts on the published train.csv and test CSV; arXiv 2008.10545 for the split sizes.
# Public and private counts of the test split are not published, so they are counted and never asserted.
OFFICIAL: dict[str, object] = {
    "training pictures": 141_931,
    "test pictures": 55_376,
    "names that do not end in .jpg": 0,
    "first training row (name, class, group)": ("1.jpg", 0, 0),
    "last training row (name, class, group)": ("141931.jpg", 9690, 349),
    "classes in train": 9_691,
    "highest class id": 9_690,
    "classes in test": 9_691,
    "groups": 360,
    "highest group id": 360,
    "unused group ids": (359,),
    "training pictures a class: smallest": 2,
    "training pictures a class: median": 12.0,
    "training pictures a class: mean, 2 digits": 14.65,
    "training pictures a class: 95th percentile": 35.0,
    "training pictures a class: largest": 81,
    "classes with 2 training pictures": 188,
    "classes with 5 or fewer training pictures": 2_235,
    "test pictures a class: smallest": 3,
    "test pictures a class: largest": 6,
    "classes with 6 test pictures": 8_336,
    "test pictures of classes with 5 or fewer training pictures": 10_641,
    "test pictures of classes with 6 to 20 training pictures": 29_609,
    "test pictures of classes with more than 20 training pictures": 15_126,
}


def measure(
    train_name: Sequence[str],
    train_label: np.ndarray,
    train_group: np.ndarray,
    test_name: Sequence[str],
    test_label: np.ndarray,
) -> dict[str, object]:
    """Measures a catalogue's tables (names, int64 labels 0..C-1 and groups) under the keys of OFFICIAL."""
    classes = int(max(train_label.max(), test_label.max())) + 1
    train_count = np.bincount(train_label, minlength=classes)
    test_count = np.bincount(test_label, minlength=classes)
    seen, groups = train_count[train_count > 0], np.unique(train_group)
    tested = test_count[test_count > 0]
    named = [*train_name, *test_name]
    return {
        "training pictures": len(train_name),
        "test pictures": len(test_name),
        "names that do not end in .jpg": sum(not name.endswith(".jpg") for name in named),
        "first training row (name, class, group)": (train_name[0], int(train_label[0]), int(train_group[0])),
        "last training row (name, class, group)": (train_name[-1], int(train_label[-1]), int(train_group[-1])),
        "classes in train": len(seen),
        "highest class id": classes - 1,
        "classes in test": len(tested),
        "groups": len(groups),
        "highest group id": int(groups[-1]),
        "unused group ids": tuple(sorted(set(range(int(groups[-1]) + 1)) - set(groups.tolist()))[:5]),
        "training pictures a class: smallest": int(seen.min()),
        "training pictures a class: median": float(np.median(seen)),
        "training pictures a class: mean, 2 digits": round(float(seen.mean()), 2),
        "training pictures a class: 95th percentile": float(np.percentile(seen, 95)),
        "training pictures a class: largest": int(seen.max()),
        "classes with 2 training pictures": int((train_count == 2).sum()),
        "classes with 5 or fewer training pictures": int((seen <= 5).sum()),
        "test pictures a class: smallest": int(tested.min()),
        "test pictures a class: largest": int(tested.max()),
        "classes with 6 test pictures": int((test_count == 6).sum()),
        "test pictures of classes with 5 or fewer training pictures": int(test_count[train_count <= 5].sum()),
        "test pictures of classes with 6 to 20 training pictures": int(
            test_count[(train_count >= 6) & (train_count <= 20)].sum()
        ),
        "test pictures of classes with more than 20 training pictures": int(test_count[train_count > 20].sum()),
    }


def differences(
    train_name: Sequence[str],
    train_label: np.ndarray,
    train_group: np.ndarray,
    test_name: Sequence[str],
    test_label: np.ndarray,
) -> list[str]:
    """One line for each fact that does not hold, with what is expected and what was found; empty if all hold."""
    found = measure(train_name, train_label, train_group, test_name, test_label)
    return [
        f"{fact}: expected {expected}, found {found[fact]}"
        for fact, expected in OFFICIAL.items()
        if found[fact] != expected
    ]
