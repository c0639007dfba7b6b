"""Training input pipelines over the same photos, each as its users set it up: what `tests.peers.input` compares.

All make views of 224 pixels by Inception's crop (8 to 100 % of the area, ratio 3/4 to 4/3) and a flip, shuffled, in
batches, with as many threads or worker processes as there are cores. timm, tf.data and DALI crop and normalise on the
host; ours decodes whole pictures to a canvas there and crops in the training step, on the accelerator. Rows named
"with views" compute that part too, on the CPU.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.peers.photos import DATA, ORIGINALS, REDUCED, REDUCED_FILES

CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Settings(NamedTuple):
    """The same for all: the folder of `prepare_photos`, cores, images a batch, and the side of the views in pixels."""

    scratch: Path
    threads: int
    batch_size: int
    image_size: int = 224


class Loader(NamedTuple):
    """A pipeline.

    Attributes:
        name: For a table.
        files: What it reads: `ORIGINALS` or `REDUCED_FILES`.
        package: To import.
        requirement: What to install.
        batches: Yields the images of each batch once they are there; endless.
    """

    name: str
    files: str
    package: str
    requirement: str
    batches: Callable[[Settings], Iterator[int]]


def _timm(files: str, settings: Settings) -> Iterator[int]:
    """`create_loader` with its defaults, as timm's train.py calls it, but for the colour jitter, which is off.

    With its prefetcher, the default, workers hand on uint8 and the main process normalises whole batches.
    """
    import timm.data
    import torch

    loader = timm.data.create_loader(
        timm.data.ImageDataset(str(settings.scratch / files / "train")),
        (3, settings.image_size, settings.image_size),
        settings.batch_size,
        is_training=True,
        color_jitter=None,
        num_workers=settings.threads,
        device=torch.device("cpu"),
    )
    while True:
        for images, _ in loader:
            yield len(images)


def _tf_data(files: str, settings: Settings) -> Iterator[int]:
    """Partial decoding of the crop, with the fastest, not the finest, settings of the decoder; all stages parallel."""
    import tensorflow as tf

    paths = sorted(map(str, (settings.scratch / files / "train").glob("*/*.jpg")))
    labels = [int(Path(path).parent.name) for path in paths]
    size = (settings.image_size, settings.image_size)
    mean, std = 255 * tf.constant(MEAN), 255 * tf.constant(STD)

    def view(path, label):
        data = tf.io.read_file(path)
        start, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(data),
            tf.zeros([1, 0, 4]),
            min_object_covered=0.0,
            aspect_ratio_range=CROP_RATIO,
            area_range=CROP_AREA,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([start[:2], extent[:2]], 0)
        image = tf.io.decode_and_crop_jpeg(data, window, channels=3, dct_method="INTEGER_FAST", fancy_upscaling=False)
        image = tf.image.random_flip_left_right(tf.image.resize(image, size))
        return (image - mean) / std, label

    automatic = tf.data.AUTOTUNE
    dataset = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths)).repeat()
    dataset = dataset.map(view, num_parallel_calls=automatic, deterministic=False)
    dataset = dataset.batch(settings.batch_size, drop_remainder=True, num_parallel_calls=automatic).prefetch(automatic)
    options = tf.data.Options()
    options.deterministic = False
    options.threading.private_threadpool_size = settings.threads
    options.threading.max_intra_op_parallelism = 1
    for images, _ in dataset.with_options(options):
        yield len(images)


def _dali(files: str, settings: Settings) -> Iterator[int]:
    """NVIDIA DALI without a GPU: its fused decoding and cropping on the CPU."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=settings.batch_size, num_threads=settings.threads, device_id=None)
    def pipeline():
        data, labels = fn.readers.file(file_root=str(settings.scratch / files / "train"), random_shuffle=True)
        images = fn.decoders.image_random_crop(
            data, device="cpu", random_area=list(CROP_AREA), random_aspect_ratio=list(CROP_RATIO)
        )
        images = fn.resize(images, size=[settings.image_size] * 2, interp_type=types.INTERP_LINEAR, antialias=False)
        mean, std = ([255 * value for value in values] for values in (MEAN, STD))
        mirror = fn.random.coin_flip()
        return fn.crop_mirror_normalize(images, mirror=mirror, mean=mean, std=std, dtype=types.FLOAT), labels

    running = pipeline()
    running.build()
    while True:
        images, _ = running.run()
        yield len(images)


def _ours(
    build: str, settings: Settings, *, residency: str = "stream", canvas_size: int | None = None, views: bool = False
) -> Iterator[int]:
    """The batches of a training, as `p10k_jax.train` asks for them; with `views`, what its step makes of them too."""
    import jax

    from configs import vit
    from p10k_jax import pixels, recipe, setup
    from p10k_jax.data.decode import DecodeReport
    from p10k_jax.data.order import TrainingOrder
    from p10k_jax.data.splits import open_split
    from p10k_jax.training.mesh import make_mesh
    from p10k_jax.training.step import step_keys

    config = vit.get_config("variant=S/16")
    config.update_from_flattened_dict(
        {
            "batch_size": settings.batch_size,
            "data.name": "sku_catalogue",
            "data.config": f"{build}-holdout0",
            "data.data_dir": str(settings.scratch / DATA),
            "data.image_size": settings.image_size,
            "data.canvas_size": canvas_size,
            "data.residency": residency,
            "data.threads": settings.threads,
            "augment.crop_scale": CROP_AREA,
        }
    )
    builder = setup.open_data(config)
    split = open_split(builder, config.data.train_split)
    setup.resolve(config, builder, split, recipe.preprocessing(config), num_groups=0)
    [phase] = recipe.phases(config, total_steps=1, in_steps=lambda *_, **__: 0)
    key = jax.numpy.zeros(2, "uint32")

    @jax.jit
    def augmented(step, batch):
        _, keys = step_keys(key, step, settings.batch_size)
        return phase.views(keys, batch["image"], batch["aspect"])

    batches = pixels.training_batches(
        config,
        split,
        pixels.decoded(config, builder, split),
        make_mesh(**config.mesh),
        order=TrainingOrder(config.seed, len(split)),
        steps=range(10**9),
        report=DecodeReport(),
    )
    for step, batch in enumerate(batches):
        jax.block_until_ready(augmented(step, batch.device) if views else batch.device)
        yield settings.batch_size


def _peer(name: str, package: str, requirement: str, batches) -> list[Loader]:
    return [
        Loader(f"{name}, {label}", files, package, requirement, functools.partial(batches, files))
        for files, label in ((ORIGINALS, "originals"), (REDUCED_FILES, f"{REDUCED} px"))
    ]


def _our(name: str, files: str, build: str, **settings) -> list[Loader]:
    common = (files, "p10k_jax", "-e .")
    plain = functools.partial(_ours, build, **settings)
    return [
        Loader(f"p10k_jax, {name}", *common, plain),
        Loader(f"p10k_jax, {name}, with views", *common, functools.partial(plain, views=True)),
    ]


LOADERS = [
    *_peer("timm", "timm", "timm", _timm),
    *_peer("tf.data", "tensorflow", "tensorflow-cpu", _tf_data),
    *_peer("DALI", "nvidia.dali", "nvidia-dali-cuda120", _dali),
    *_our("originals", ORIGINALS, "original"),
    *_our("originals, canvas 448", ORIGINALS, "original", canvas_size=448),
    *_our(f"{REDUCED} px", REDUCED_FILES, str(REDUCED)),
    *_our(f"{REDUCED} px, host-resident", REDUCED_FILES, str(REDUCED), residency="host"),
]
BASELINE = LOADERS[0]
BY_NAME = {loader.name: loader for loader in LOADERS}
