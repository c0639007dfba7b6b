"""The drawn pictures: products, labels, photos. Oracles: Pillow, and NumPy on the pixels."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from tfds_builder.drawn_catalogue import plan as planning
from tfds_builder.drawn_catalogue import write
from tfds_builder.drawn_catalogue.drawing import artwork, containers, design, emblems, photo, product


def family(container="box", size=6, seed=3):
    return design.Designer(np.random.default_rng(seed)).family("Iced Tea", container, size)


def composed(sku, side=96):
    """The product on white, float64[side, side, 3]."""
    image = product.render_product(sku, side).astype(float)
    canvas = np.full((side + 8, side + 8, 3), 255.0)
    top, left = (np.array(canvas.shape[:2]) - image.shape[:2]) // 2
    part = canvas[top : top + image.shape[0], left : left + image.shape[1]]
    part[:] = part * (1 - image[..., 3:] / 255) + image[..., :3]
    return canvas


@pytest.mark.parametrize("container", sorted(containers.CONTAINERS))
def test_every_container_renders_to_size_with_premultiplied_alpha(container):
    image = product.render_product(family(container, 3)[0], 90)
    assert image.dtype == np.uint8
    assert image.shape[2] == 4
    assert abs(max(image.shape[:2]) - 90) <= 2
    assert (image[..., :3] <= image[..., 3:].astype(int) + 1).all()
    assert image[[0, -1], :, 3].max() == 0
    assert image[:, [0, -1], 3].max() == 0
    assert (image[..., 3] == 255).mean() > 0.3


def test_every_container_of_the_vocabulary_is_drawn():
    kinds = design.group_kinds(600)
    assert {container for _, container in kinds} == set(containers.CONTAINERS)


def test_every_emblem_and_plate_differs_from_the_others_and_their_mirror_images():
    pictures = {}
    for name in design.EMBLEMS:
        canvas = np.zeros((48, 48), np.uint8)
        emblems.draw_emblem(canvas, (23.5, 23.5), 20, name, (255,))
        pictures[name] = canvas / 255
    for (first, one), (second, other) in itertools.combinations(pictures.items(), 2):
        assert np.abs(one - other).mean() > 0.04, (first, second)
        assert np.abs(one - other[:, ::-1]).mean() > 0.04, (first, second)


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match=r"unknown emblem 'dog'.*star"):
        emblems.emblem_polygons("dog")
    with pytest.raises(ValueError, match=r"unknown plate 'dog'.*shield"):
        emblems.plate_polygon("dog")
    with pytest.raises(ValueError, match=r"unknown kind of photo 'studio'.*shop, customer"):
        photo.draw_photo(np.zeros((9, 9, 4), np.uint8), "studio", 64, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"unknown container 'barrel'.*bottle"):
        product.render_product(family("barrel", 3)[0], 64)


@pytest.mark.parametrize("container", ["bottle", "can", "box", "pouch", "blister"])
def test_members_of_a_family_look_alike_and_differ(container):
    members = [composed(sku) for sku in family(container)]
    strangers = [composed(family(container, seed=seed)[0]) for seed in range(8, 24)]
    for one, other in itertools.combinations(members, 2):
        difference = np.abs(one - other)
        flipped = np.abs(one - other[:, ::-1])
        # At the size of a small picture there is a patch that tells them apart, flipped or not.
        for change in (difference, flipped):
            patches = change[:96, :96].reshape(12, 8, 12, 8, 3).mean(axis=(1, 3, 4))
            assert patches.max() > 25
    within = np.mean([np.abs(a - b).mean() for a, b in itertools.combinations(members, 2)])
    across = np.mean([np.abs(a - b).mean() for a, b in itertools.product(members, strangers)])
    assert within < across


def test_label_shows_its_colours():
    for sku in family(size=6):
        label = artwork.draw_label(sku, 160, 180, safe=0.9).reshape(-1, 3)
        assert label.dtype == np.uint8
        for colour in (sku.colour, sku.mark, sku.family.ground):
            assert (np.abs(label - np.float64(colour)).max(axis=1) < 3).mean() > 0.01


def test_photos_decode_with_the_longer_side_asked_for():
    plan = planning.plan(planning.PRESETS["tiny"])
    for label, side in ((0, 48), (3, 65)):
        images = plan.images("train", label)
        for image, data in zip(images, write.draw_images(plan.classes[label].design, images, side), strict=True):
            picture = Image.open(io.BytesIO(data))
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert max(picture.size) == side
            if image.kind == "shop":
                # A white ground: most of the brightest quarter of the picture is nearly white.
                assert np.percentile(np.asarray(picture).min(axis=2), 75) > 190


def test_photos_of_one_product_all_differ():
    plan = planning.plan(planning.PRESETS["tiny"])
    images = plan.images("train", 1) + plan.images("test", 1)
    files = write.draw_images(plan.classes[1].design, images, 48)
    assert len(set(files)) == len(images)
