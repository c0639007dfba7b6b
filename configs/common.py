"""Every setting a run has, with its default. The other configs start from here and change a few."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# What weight decay leaves alone in a ViT: everything but kernels. One pattern, for no ViT has all of these.
VIT_NO_DECAY = (r"(bias|scale|gamma|cls_token|reg_token|pos_embed|latent|gem_pool\.p)$",)


def duration(**given: float) -> ConfigDict:
    """A length in one of four units; see `p10k_jax.training.duration`."""
    units = {"steps": placeholder(int), "epochs": placeholder(float), "examples": placeholder(int)}
    return ConfigDict(units | {"percent": placeholder(float)} | given)


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
    config.data.image_size = 224  # side of what the model sees, pixels
    config.data.canvas_size = placeholder(int)  # side of what the host decodes to; empty: 8/7 of image_size (256 for
    # 224). Crops smaller than the view are enlarged from the canvas: raise it to keep the detail of larger pictures.
    config.data.mean = (0.485, 0.456, 0.406)  # ImageNet's; pretrained weights want those of their own training
    config.data.std = (0.229, 0.224, 0.225)
    config.data.threads = 0  # decoding threads a host; 0: one a core
    config.data.workers = 0  # decoding processes a host; 0: threads of this one

    config.augment = ConfigDict()
    config.augment.crop_scale = (0.25, 1.0)  # area of the random crop
    config.augment.crop_ratio = (3 / 4, 4 / 3)  # width / height of the random crop
    config.augment.flip = 0.5
    config.augment.jitter = (0.0, 0.0, 0.0)  # strengths of brightness, contrast, saturation; 0.4 is usual

    config.model = ConfigDict()
    config.model.name = ""  # see python -c "from p10k_jax.models import known_names; print(known_names())"
    config.model.num_classes = placeholder(int)  # empty: from the data
    config.model.dtype = "auto"  # what the forward pass computes in; auto: bfloat16, and float32 on CPU
    config.model.options = ConfigDict()  # over what the name stands for
    config.model.weights = ""  # .safetensors file in timm's names to start from; empty: from chance
    config.model.weights_new = ()  # patterns of parameters that the file may lack; the head always may
    config.model.weights_left_over = ()  # patterns of tensors in the file that may stay unused

    config.loss = ConfigDict()
    config.loss.name = "softmax"
    config.loss.label_smoothing = 0.1
    config.loss.logit_adjustment = 0.0  # 1.0 evens out how often classes come in train; for a balanced test split

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.no_decay = ()  # patterns of parameter paths
    config.optimizer.layer_decay = 1.0  # rate of a layer over that of the next; 1.0: all alike
    config.optimizer.rates = ()  # (pattern of parameter paths, factor on the rate) pairs; 0.0 freezes
    config.optimizer.clip_norm = 1.0  # 0.0: none
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.momentum = 0.9
    config.schedule = ConfigDict({"warmup": duration(percent=5.0), "end": 0.0})
    config.ema_decay = 0.0  # 0.0: none; else the averaged weights are evaluated

    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "model": 1})  # -1: what the others leave
    config.sharding_rules = ()  # (pattern, spec) pairs; see p10k_jax.training.mesh.state_shardings

    config.eval = ConfigDict()
    config.eval.split = "validation"  # empty: none; then no checkpoint is the best
    config.eval.every = duration(percent=10.0)
    config.eval.batch_size = placeholder(int)  # empty: batch_size
    config.eval.crop = 0.0  # centred square as a fraction of the shorter side; 0.0: the whole picture, squashed

    config.checkpoint = ConfigDict({"every": duration(percent=5.0)})
    config.log = ConfigDict({"every": duration(steps=20)})
    return config.lock()
