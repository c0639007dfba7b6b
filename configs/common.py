"""Every setting a run has, with its default. The other configs start from here and change a few."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# What weight decay leaves alone in a ViT: everything but kernels. One pattern, for no ViT has all of these.
VIT_NO_DECAY = (r"(bias|scale|gamma(_[12])?|cls_token|reg_token|pos_embed|latent|gem_pool\.p|rope\.freqs)$",)

RESNET_NO_DECAY = (r"(bias|scale|gem_pool\.p)$",)


def duration(**given: float) -> ConfigDict:
    """A length in one of four units; see `p10k_jax.training.duration`."""
    units = {"steps": placeholder(int), "epochs": placeholder(float), "examples": placeholder(int)}
    return ConfigDict(units | {"percent": placeholder(float)} | given)


def resnet_options(**given) -> ConfigDict:
    """Options of a ResNet over what its name stands for; empty ones leave that."""
    options = {"pool": placeholder(str), "drop_path": placeholder(float), "frozen_norms": placeholder(bool)}
    return ConfigDict(options | {"ghost_batch": placeholder(int)} | given)


def vit_options(**given) -> ConfigDict:
    """Options of a ViT over what its name stands for; empty ones leave that."""
    options = {key: placeholder(int) for key in ("width", "depth", "heads", "registers")}
    options |= {key: placeholder(float) for key in ("mlp_ratio", "layer_scale", "drop_path")}
    options |= {key: placeholder(str) for key in ("pool", "activation", "positions")}
    return ConfigDict(options | {"qk_norm": placeholder(bool)} | given)


def get_config(arg: str | None = None) -> ConfigDict:
    """The defaults; they name no model, so they do not train by themselves."""
    del arg
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 256  # global, over all hosts and devices
    config.duration = duration(epochs=100.0)  # percent=10.0 runs a tenth of it

    config.data = ConfigDict()
    config.data.name = "products10k"  # or sku_catalogue, drawn_catalogue, or any image-classification dataset of TFDS
    config.data.config = ""  # builder config, e.g. 256 (shorter side); empty: the builder's first
    config.data.manual_dir = placeholder(str)  # where the raw archives lie, to prepare from
    config.data.data_dir = placeholder(str)  # where prepared data lies; empty: TFDS's default folder
    config.data.leave_out_unreadable = False  # when preparing: leave out pictures that no decoder reads, and say so
    config.data.train_split = "train"
    config.data.fingerprint = placeholder(str)  # filled in: a run never goes on with other data
    config.data.image_size = placeholder(int)  # side of what the model sees, pixels; empty: that of model.weights
    config.data.low_image_size = placeholder(int)  # that of the first part of the run; empty: no such part
    config.data.low_until = duration(percent=70.0)  # where that part ends
    config.data.canvas_size = placeholder(int)  # side of what the host decodes to; empty: 8/7 of image_size (256 for
    # 224). Crops smaller than the view are enlarged from the canvas: raise it to keep the detail of larger pictures.
    config.data.pad = False  # pad pictures to a square with the mean; else crops fill the view and evaluation squashes
    config.data.mean = placeholder(tuple)  # of the channels, in 0..1; empty: those of model.weights
    config.data.std = placeholder(tuple)
    config.data.residency = "auto"  # where pixels are: stream (decoded batch by batch), host (decoded once, in a memory
    # map beside the data), device (that in accelerator memory); auto: by size, told at the start. All train the same.
    config.data.threads = 0  # decoding threads a host; 0: one a core
    config.data.workers = 0  # decoding processes a host; 0: threads of this one

    config.sampling = ConfigDict()
    config.sampling.name = ""  # class, sqrt or group: which of them come alike; empty: images as they come
    config.sampling.after = duration(percent=0.0)  # until there images come as they come

    config.augment = ConfigDict()
    config.augment.crop_scale = (0.25, 1.0)  # area of the random crop
    config.augment.crop_ratio = (3 / 4, 4 / 3)  # width / height of the random crop
    config.augment.flip = 0.5
    config.augment.jitter = (0.0, 0.0, 0.0)  # strengths of brightness, contrast, saturation; 0.4 is usual
    config.augment.grey = 0.0  # probability of losing all colour
    config.augment.randaugment = ConfigDict(
        {"num_ops": 0, "magnitude": 9.0, "magnitude_std": 0.5, "probability": 0.5}  # num_ops=0: none; 2 is usual
    )
    config.augment.augmix = ConfigDict({"width": 0, "depth": (1, 3), "magnitude": 3.0, "alpha": 1.0})  # width=0: none
    config.augment.erasing = ConfigDict(
        {"probability": 0.0, "area": (0.02, 1 / 3), "ratio": (0.3, 1 / 0.3), "mode": "pixel"}
    )
    config.augment.mix = ConfigDict()
    config.augment.mix.mixup_alpha = 0.0  # 0.0: none; 0.2 to 0.8 is usual
    config.augment.mix.cutmix_alpha = 0.0  # 0.0: none; 1.0 is usual
    config.augment.mix.probability = 1.0  # of an image being mixed at all
    config.augment.mix.switch = 0.5  # probability of CutMix, where both are on
    config.augment.plain_end = duration(percent=0.0)  # the last part of the run, in which crop and flip alone are left

    config.model = ConfigDict()
    config.model.name = ""  # see python -c "from p10k_jax.models import known_names; print(known_names())"
    config.model.num_classes = placeholder(int)  # empty: from the data
    config.model.padded_classes = placeholder(int)  # filled in: width of the classifier, which mesh.model divides
    config.model.dtype = "auto"  # what the forward pass computes in; auto: bfloat16, and float32 on CPU
    config.model.attention = "keep"  # for the gradient; or recompute, for less memory, or cudnn, on NVIDIA GPUs
    config.model.remat = "none"  # or elementwise, products, blocks: what is computed again for the gradient
    config.model.options = ConfigDict()  # over what the name stands for
    config.model.weights = ""  # to start from: a file, hf_hub:timm/NAME, or the workdir of a run; empty: from chance
    config.model.weights_new = ()  # patterns of parameters that it may lack; the head always may
    config.model.weights_left_over = ()  # patterns of tensors in it that may stay unused
    config.model.weights_without = ()  # patterns of tensors in it that are not used, so that they are made anew
    config.model.weights_sha256 = placeholder(str)  # filled in

    config.head = ConfigDict()
    config.head.name = "linear"  # or cosine
    config.head.embedding_size = 0  # width of a dense layer before it; 0: none
    config.head.bnneck = False  # BatchNorm before it
    config.head.subcentres = 1  # of a cosine head: weights a class, of which the nearest counts
    config.head.scale = 30.0  # of a cosine head
    config.head.bias_start = 0.0  # of a linear head; about -log(classes) for loss.name=sigmoid

    config.loss = ConfigDict()
    config.loss.name = "softmax"  # or sigmoid, focal
    config.loss.label_smoothing = 0.1
    config.loss.focal_gamma = 2.0
    config.loss.logit_adjustment = 0.0  # 1.0 evens out how often classes come in train; for a balanced test split
    config.loss.class_weight_power = 0.0  # 1.0 makes all classes count alike
    config.loss.margin = ""  # arcface or cosface, for a cosine head
    config.loss.margin_size = 0.3
    config.loss.margin_by_frequency = ()  # (a, b, c): a * n ** -b + c for a class of n images, instead of margin_size
    config.loss.group_weight = 0.0  # above 0 adds a head that tells groups, and its loss

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or adafactor, lamb, lion, muon, sgd
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.no_decay = ()  # patterns of parameter paths
    config.optimizer.layer_decay = 1.0  # rate of a layer over that of the next; 1.0: all alike
    config.optimizer.rates = ()  # (pattern of parameter paths, factor on the rate) pairs; 0.0 freezes
    config.optimizer.head_first = duration(steps=0)  # neck and heads learn alone; over as long again all else comes in
    config.optimizer.accumulate = 1  # parts that a batch is taken in, for less memory
    config.optimizer.clip_norm = 1.0  # 0.0: none
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = placeholder(float)  # empty: 0.999, and 0.99 for lion
    config.optimizer.momentum = 0.9
    config.optimizer.moment_dtype = "float32"  # of the first moment; bfloat16 takes half of its memory
    config.schedule = ConfigDict()
    config.schedule.name = "cosine"  # or linear, constant, rsqrt
    config.schedule.warmup = duration(percent=5.0)
    config.schedule.cooldown = duration(percent=0.0)  # linear to the end, on top; for constant and rsqrt
    config.schedule.end = 0.0  # least learning rate
    config.ema_decay = 0.0  # 0.0: none; else the averaged weights are evaluated
    config.not_finite = "stop"  # what a loss or gradient that is not finite does; or skip: its step changes nothing

    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "model": 1})  # -1: what the others leave
    config.sharding_rules = ()  # (pattern, spec) pairs; see p10k_jax.training.mesh.state_shardings

    config.eval = ConfigDict()
    config.eval.split = "validation"  # empty: none; then no checkpoint is the best
    config.eval.every = duration(percent=10.0)
    config.eval.batch_size = placeholder(int)  # empty: batch_size
    config.eval.image_size = placeholder(int)  # side of what the model sees then; empty: data.image_size
    config.eval.crop = 0.0  # centred square as a fraction of the shorter side; 0.0: the whole picture, squashed

    config.checkpoint = ConfigDict({"every": duration(percent=5.0)})
    config.checkpoint.time_limit = 600.0  # seconds; one that takes longer is given up, and training goes on
    config.log = ConfigDict({"every": duration(steps=20)})  # or oftener, for 20 rows a run
    config.log.trackers = ("tensorboard",)  # beside metrics.jsonl; also wandb, mlflow: "('tensorboard', 'wandb')"
    config.log.project = "p10k_jax"  # of W&B, and the experiment of MLflow; the run is named after the workdir
    return config.lock()
