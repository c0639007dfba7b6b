"""The plan of the drawn catalogue: the official facts, the long tail at other sizes, names, errors."""

import collections
import dataclasses

import numpy as np
import pytest

from tfds_builder.drawn_catalogue import plan as planning
from tfds_builder.drawn_catalogue.drawing import design


@pytest.fixture(scope="module")
def full():
    return planning.plan(planning.PRESETS["full"])


def test_full_preset_has_the_official_train_histogram(full):
    counts = np.array([entry.num_train for entry in full.classes])
    assert len(counts) == 9_691
    assert counts.sum() == 141_931
    assert (counts.min(), counts.max()) == (2, 81)
    assert np.median(counts) == 12
    assert counts.mean() == pytest.approx(14.65, abs=0.005)
    assert np.percentile(counts, 95) == 35
    assert (counts == 2).sum() == 188
    assert (counts <= 5).sum() == 2_235
    # Known from the sizes of the hold-outs "1 per class with n>=5" and "2 per class with n>=20".
    assert (counts >= 5).sum() == 7_907
    assert 2 * (counts >= 20).sum() == 5_486


def test_full_preset_has_the_official_test_counts_by_train_frequency(full):
    train = np.array([entry.num_train for entry in full.classes])
    test = np.array([entry.num_test for entry in full.classes])
    assert test.sum() == 55_376 == len(full.test_names)
    assert set(test) == {3, 4, 5, 6}
    assert (test == 6).sum() == 8_336
    assert test[train <= 5].sum() == 10_641
    assert test[(train > 5) & (train <= 20)].sum() == 29_609
    assert test[train > 20].sum() == 15_126


def test_full_preset_has_the_official_groups_and_ends(full):
    groups = {entry.group for entry in full.classes}
    assert groups == set(range(361)) - {359} == set(full.group_names)
    assert (full.classes[0].label, full.classes[0].group) == (0, 0)
    assert (full.classes[-1].label, full.classes[-1].group) == (9_690, 349)
    assert full.images("train", 0)[0].name == "1.jpg"
    assert full.images("train", 9_690)[-1].name == "141931.jpg"


def test_names_are_unique_and_disjoint(full):
    assert len(set(full.test_names)) == 55_376
    assert all(len(name) == 11 and name.endswith(".jpg") and name[:7].isdigit() for name in full.test_names)
    assert len({entry.name for entry in full.classes}) == 9_691
    assert len(set(full.group_names.values())) == 360
    assert set(full.test_usages) == {"Public", "Private"}


def test_families_are_small_share_a_look_and_no_two_skus_are_alike(full):
    families = collections.defaultdict(list)
    for entry in full.classes:
        families[entry.family].append(entry)
    assert {len(members) for members in families.values()} <= {3, 4, 5, 6}
    for members in families.values():
        assert len({entry.group for entry in members}) == 1
        assert len({entry.design.family for entry in members}) == 1
        assert len({entry.design.emblem for entry in members}) == len(members)
        assert len({entry.design.colour for entry in members}) == len(members)
    # Everything that is seen, without the words: no class is drawn like another.
    looks = {dataclasses.replace(entry.design, flavour="", size="") for entry in full.classes}
    assert len(looks) == len(full.classes)


def test_kinds_of_photo_keep_their_shares(full):
    for split in ("train", "test"):
        kinds = [image.kind for label in range(300) for image in full.images(split, label)]
        assert 0.42 < kinds.count("shop") / len(kinds) < 0.48


@pytest.mark.parametrize("preset", ["tiny", "demo"])
def test_presets_scale_the_long_tail(preset):
    parameters = planning.PRESETS[preset]
    plan = planning.plan(parameters)
    train = np.array([entry.num_train for entry in plan.classes])
    test = np.array([entry.num_test for entry in plan.classes])
    assert (train.sum(), test.sum()) == (parameters.num_train, parameters.num_test)
    assert (len(train), len(set(full_groups := [entry.group for entry in plan.classes]))) == (
        parameters.num_classes,
        parameters.num_groups,
    )
    assert max(full_groups) == parameters.num_groups - 1
    assert train.min() >= 2
    assert train.max() > 2 * np.median(train)
    assert train.mean() > np.median(train)
    assert test.max() - test.min() <= 1


def test_histogram_meets_any_sum_and_never_falls_below_two():
    for num_classes, num_train in ((2, 4), (3, 7), (50, 100), (50, 101), (100, 5_003), (9_691, 20_000), (360, 99_999)):
        counts = planning.train_histogram(num_classes, num_train)
        assert counts.sum() == num_train
        assert counts.min() >= 2
        assert (np.diff(counts) >= 0).all()


def test_plan_depends_on_the_seed_and_on_nothing_else():
    parameters = planning.PRESETS["tiny"]
    assert planning.plan(parameters) == planning.plan(parameters)
    assert planning.plan(parameters) != planning.plan(dataclasses.replace(parameters, seed=1))
    seeds = [
        image.seed
        for split in ("train", "test")
        for label in range(6)
        for image in planning.plan(parameters).images(split, label)
    ]
    assert len(set(seeds)) == 84


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_train": 11}, ["num_train=11", "2 images a class", "12.."]),
        ({"num_test": 5}, ["num_test=5", "1 image a class", "6.."]),
        ({"num_groups": 7}, ["num_groups=7", "1..6"]),
        ({"num_groups": 0}, ["num_groups=0", "1..6"]),
        ({"num_classes": 1}, ["num_classes=1", "2.."]),
        ({"image_side": 16}, ["image_side=16", "32..2048"]),
        ({"seed": -1}, ["seed=-1", "0.."]),
        ({"num_train": 1_000_000}, ["num_train=1000000", "999999"]),
        ({"num_classes": 6.0}, ["num_classes=6.0", "whole number"]),
        ({"seed": True}, ["seed=True", "whole number"]),
    ],
)
def test_bad_parameters_are_named(change, words):
    with pytest.raises(ValueError, match=r"(num_|image_side|seed)") as caught:
        planning.plan(dataclasses.replace(planning.PRESETS["tiny"], **change))
    for word in words:
        assert word in str(caught.value)


def test_few_classes_a_group_still_plan():
    parameters = planning.CatalogueParameters(num_classes=7, num_groups=5, num_train=14, num_test=7, image_side=32)
    plan = planning.plan(parameters)
    assert {entry.group for entry in plan.classes} == set(range(5))
    assert [entry.num_train for entry in plan.classes] == [2] * 7


def test_group_kinds_are_unique_beyond_the_vocabulary():
    kinds = design.group_kinds(1_500)
    assert len(set(kinds)) == 1_500
