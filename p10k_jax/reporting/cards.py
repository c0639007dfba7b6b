"""Model cards (Mitchell et al., "Model Cards for Model Reporting", arXiv 1810.03993) out of what a workdir holds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p10k_jax.facts import read_facts
from p10k_jax.files import read_json
from p10k_jax.weights.hub import PREFIXES
from tfds_builder.card import PRODUCTS10K_TERMS, code, escaped, front_matter, table

# Figures that stand in a column, as far as they exist; a split's other figures stay in its metrics.json.
_FIGURES = ("top1", "top5", "top1_public", "top1_private")


class Figures(NamedTuple):
    """What a workdir's evaluation of a split says.

    Attributes:
        split: Of the dataset.
        values: As in its `metrics.json`.
    """

    split: str
    values: Mapping[str, Any]


class CardFacts(NamedTuple):
    """What a card tells beside the figures.

    Attributes:
        library: The hub's `library_name`: `timm` or `jax`.
        config: The resolved config, nested dicts.
        changes: Where it differs from the defaults: `(key, default, here)`.
        num_classes: Of the catalogue.
        train_images: Of all classes; None where they were not counted.
        step: Of the checkpoint.
        usage: Markdown: how to call what lies beside the card.
        notes: What a person should know before trusting the numbers.
    """

    library: str
    config: Mapping[str, Any]
    changes: Sequence[tuple[str, str, str]]
    num_classes: int
    train_images: int | None
    step: int
    usage: str
    notes: Sequence[str]


def read_figures(workdir: Path) -> list[Figures]:
    """The figures of every evaluated split, by its name.

    Raises:
        ValueError: a `metrics.json` that is none.
    """
    found = []
    for path in sorted(workdir.glob("eval/*/metrics.json")):
        values = read_json(path, "evaluate anew")
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds no figures; evaluate anew.")
        found.append(Figures(path.parent.name, values))
    return found


def model_card(workdir: Path, facts: CardFacts) -> str:
    """The card as Markdown with YAML front matter, as the Hugging Face hub reads it.

    The front matter holds the figures of this checkpoint and its one view alone; the table also those of others, and of
    means over several views, and says so. The licence is left to whoever publishes the model.
    """
    data, figures = facts.config["data"], read_figures(workdir)
    name = f"{facts.config['model']['name']} on {data['name']}"
    parts = [
        front_matter(_header(name, facts, figures)),
        "<!-- license: yours to choose; the front matter says none. -->",
        f"# {escaped(name)}",
        _what_it_is(workdir, facts),
        "## How to use it",
        facts.usage,
        *(f"**Note.** {escaped(note)}" for note in facts.notes),
        "## Figures",
        _figures_table(facts, figures),
        "## Training",
        "Where the config differs from the defaults:",
        table(
            ("setting", "default", "here"), [tuple(map(code, change)) for change in facts.changes if _tells(*change)]
        ),
        "## Intended use and limits",
        _limits(facts),
    ]
    if data["name"] == "products10k":
        parts += ["## Terms of the data", escaped(PRODUCTS10K_TERMS)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


# Where things lay on the machine of the training is nobody's business.
_OF_THE_MACHINE = (
    "data.data_dir",
    "data.manual_dir",
    "data.threads",
    "data.workers",
    "data.residency",
    "model.weights",
)


def _tells(key: str, default: str, here: str) -> bool:
    """Whether a reader learns something: neither a place on a machine nor an option left open."""
    return key not in _OF_THE_MACHINE and (default, here) != (repr("absent"), repr(None))


def _header(name: str, facts: CardFacts, figures: Sequence[Figures]) -> dict[str, Any]:
    header = {
        "library_name": facts.library,
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "fine-grained", "products", "p10k_jax", *{facts.library: None}],
        "datasets": [facts.config["data"]["name"]],
        "metrics": ["accuracy"],
    }
    mine = [one for one in figures if _of_one_view(one.values, facts)]
    results = [_result(facts.config["data"], one) for one in mine]
    results = [result for result in results if result["metrics"]]
    return header | ({"model-index": [{"name": name, "results": results}]} if results else {})


def _of_one_view(values: Mapping[str, Any], facts: CardFacts) -> bool:
    """Whether figures are of this checkpoint and of the one view that an export takes, not a mean over several."""
    settings = facts.config.get("eval", {})
    same = all(values.get(key) == settings[key] for key in ("image_size", "crop") if key in settings)
    return values.get("step") == facts.step and same and not values.get("flip")


def _result(data: Mapping[str, Any], figures: Figures) -> dict[str, Any]:
    metrics = [
        {"type": "accuracy", "name": key, "value": figures.values[key]}
        for key in _FIGURES
        if _is_figure(figures.values.get(key))
    ]
    dataset = {"name": data["name"], "type": data["name"], "split": figures.split}
    dataset |= {"config": data["config"]} if data.get("config") else {}
    return {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}


def _is_figure(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _what_it_is(workdir: Path, facts: CardFacts) -> str:
    config, run = facts.config, read_facts(workdir)
    model, data = config["model"], config["data"]
    cost = [f"{run['parameters']:,} parameters"] if run.get("parameters") else []
    if run.get("forward_flops"):
        cost.append(f"{run['forward_flops'] / 1e9:,.3g} GFLOPs an image of {run['image_size']} pixels")
    trained = f"{facts.train_images:,} training pictures, " if facts.train_images is not None else ""
    dataset = "/".join(filter(None, (data["name"], data.get("config"))))
    source = model.get("weights") or ""
    # A path says more of the machine than of the weights.
    source = source if source.startswith(PREFIXES) else Path(source).name
    lines = [
        f"A classifier of pictures of products, trained with p10k\\_jax; it tells {facts.num_classes:,} classes apart.",
        "",
        f"- model: {', '.join([code(model['name']), *cost])}",
        f"- data: {code(dataset)}, {trained}{facts.num_classes:,} classes ({code('classes.csv')} names them)",
        f"- started from: {code(source) if source else 'chance'}",
        f"- checkpoint: step {facts.step:,}",
    ]
    if soup := config.get("soup"):
        lines.append(f"- a soup ({escaped(soup['method'])}) of {len(soup['of'])} runs")
    return "\n".join(lines)


def _figures_table(facts: CardFacts, figures: Sequence[Figures]) -> str:
    if not figures:
        return "None: the run was not evaluated before it was exported."
    shown = [key for key in _FIGURES if any(_is_figure(one.values.get(key)) for one in figures)]
    rows = []
    for split, values in figures:
        cells = [_with_count(values, key) for key in shown]
        step = values.get("step")
        other = "" if step == facts.step else " (another checkpoint than this)"
        size, crop = (values.get(key, "") for key in ("image_size", "crop"))
        seen = code(crop) + (", each also mirrored" if values.get("flip") else "")
        rows.append((code(split), *cells, f"{step:,}{other}" if type(step) is int else "", code(size), seen))
    header = ("split", *map(code, shown), "step", "pixels", "crop")
    return table(header, rows) + "\n\nFractions, with the number of pictures that each was counted on."


def _with_count(values: Mapping[str, Any], key: str) -> str:
    if not _is_figure(values.get(key)):
        return ""
    count = values.get(f"count{key.removeprefix('top1')}" if key.startswith("top1_") else "count")
    return f"{values[key]:.4f}" + (f" of {count:,}" if type(count) is int else "")


def _limits(facts: CardFacts) -> str:
    return "\n".join(
        (
            f"- Made to tell the {facts.num_classes:,} products of this catalogue apart in photos like its own. A "
            "picture of anything else is also given one of these classes: there is no class for the unknown.",
            "- The scores are a softmax and no calibrated probabilities; classes with few training pictures are "
            "recognised worse than the mean says.",
            "- Products change their packaging; the figures hold for the time of the pictures.",
            "- Not for decisions about people, and not where a wrong product is a danger, without a person who checks.",
        )
    )
