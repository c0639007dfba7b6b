"""Dataset cards (Gebru et al., "Datasheets for Datasets", arXiv 1803.09010, in short) of prepared datasets.

Markdown with YAML front matter, as the Hugging Face hub reads it. Everything that comes from data is escaped: names of
classes and files can break neither.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_builder import config as config_lib
from tfds_builder.base_builder import LABELS_FILE
from tfds_builder.terminal import printable

_SHOWN = 5  # names told of each oddity
_QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
# What YAML does not take as it stands, or takes for the end of a line; JSON's escapes of the rest are YAML's too.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
PRODUCTS10K_TERMS = (
    "Products-10K (Bai et al., arXiv 2008.10545) is free for non-commercial research and education only and must not "
    "be redistributed; everyone gets it from its owners: https://products-10k.github.io/."
)


def escaped(text: object) -> str:
    """Text as it reads, in one line, whatever Markdown or HTML it looks like."""
    line = re.sub(r"\s+", " ", _encodable(str(text))).strip()
    return re.sub(r"([\\`*_\[\]<>|&~$#])", r"\\\1", line)


def code(text: object) -> str:
    """Text as a code span, in one line, also in a table."""
    line = re.sub(r"\s+", " ", _encodable(str(text))).strip().replace("|", r"\|")
    if not line:
        return ""
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, edge = "`" * (longest + 1), " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{edge}{line}{edge}{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def front_matter(values: Mapping[str, Any]) -> str:
    """YAML front matter: each value as JSON, which YAML reads."""
    lines = [f"{key}: {_yaml(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---", ""])


def _yaml(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _NOT_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _encodable(text: str) -> str:
    return printable(text)


def write_card(path: Path, builder: tfds.core.DatasetBuilder) -> None:
    """Writes `dataset_card` of a prepared dataset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dataset_card(builder), encoding="utf-8")


def dataset_card(builder: tfds.core.DatasetBuilder) -> str:
    """The card of a prepared dataset, out of its info alone; of one of TFDS's own what that knows."""
    info, metadata = builder.info, builder.info.metadata or {}
    counts = {name: split.num_examples for name, split in info.splits.items()}
    parts = [
        front_matter(_header(builder, sum(counts.values()))),
        f"# {escaped(info.full_name)}",
        *_section("What it is", _escaped_lines(info.description)),
        *_section("Composition", _composition(builder, counts, metadata)),
        *_section("Class frequencies", _frequencies(builder, counts)),
        *_section("Collection and preparation", _preparation(builder, metadata)),
        *_section("Oddities", _oddities(metadata)),
        *_section("Identity", _identity(builder, metadata)),
        *_section("Terms", _terms(builder)),
        *_section("Citation", _citation(info.citation)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def _escaped_lines(text: str) -> str:
    return "\n\n".join(escaped(paragraph) for paragraph in re.split(r"\n\s*\n", text or "") if paragraph.strip())


def _header(builder: tfds.core.DatasetBuilder, total: int) -> dict[str, Any]:
    bounds = [f"n<{_short(_SIZES[0])}"]
    bounds += [f"{_short(low)}<n<{_short(high)}" for low, high in itertools.pairwise(_SIZES)]
    place = int(np.searchsorted(_SIZES, total, side="right"))
    header = {
        "pretty_name": builder.info.full_name,
        "task_categories": ["image-classification"],
        "tags": ["fine-grained", "tensorflow-datasets", "array-record"],
        "size_categories": [bounds[place] if place < len(bounds) else f"n>{_short(_SIZES[-1])}"],
    }
    return ({"license": "other"} if builder.name == "products10k" else {}) | header


def _short(number: int) -> str:
    return f"{number // 1_000_000}M" if number >= 1_000_000 else f"{number // 1_000}K"


def _composition(builder: tfds.core.DatasetBuilder, counts: Mapping[str, int], metadata: Mapping[str, Any]) -> str:
    features = builder.info.features
    lines = [table(("split", "pictures"), [(code(name), f"{count:,}") for name, count in counts.items()])]
    labels = [
        key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel) and key != "group"
    ]
    lines += [f"- {features[key].num_classes:,} classes ({code(key)})" for key in labels]
    if "num_groups" in metadata:
        lines.append(f"- {metadata['num_groups']:,} groups of classes ({code('group')})")
    if usage := metadata.get("test_usage"):
        lines.append("- test: " + ", ".join(f"{count:,} {escaped(name)}" for name, count in usage.items()))
    lines.append("- columns: " + ", ".join(code(key) for key in features))
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def _frequencies(builder: tfds.core.DatasetBuilder, counts: Mapping[str, int]) -> str:
    """Quantiles over the classes of how many pictures each has, where the labels lie beside the records."""
    rows = []
    for split in counts:
        path = Path(builder.data_dir) / LABELS_FILE.format(split=split)
        if path.exists():
            each = np.bincount(np.load(path), minlength=builder.info.features["label"].num_classes)
            rows.append((code(split), *(f"{value:g}" for value in np.quantile(each, _QUANTILES))))
    if not rows:
        return ""
    names = ("smallest", *(f"{100 * quantile:g} %" for quantile in _QUANTILES[1:-1]), "largest")
    return "Pictures a class, quantiles over all classes:\n\n" + table(("split", *names), rows)


def _preparation(builder: tfds.core.DatasetBuilder, metadata: Mapping[str, Any]) -> str:
    if "preparation" not in metadata:
        return ""
    told = config_lib.describe(config_lib.Preparation(**metadata["preparation"]))
    drawn = builder.name == "drawn_catalogue"
    origin = "The pictures are drawn by a program; none shows a real product." if drawn else "Raw files, as given."
    lines = [f"- {origin}", f"- {escaped(told)}", f"- Stored: {metadata['stored_bytes'] / 1e6:,.1f} MB of pictures."]
    decoded = ", ".join(f"{count:,} by {escaped(rung)}" for rung, count in metadata["decoded_by"].items())
    return "\n".join([*lines, f"- Every picture was decoded once: {decoded}."])


def _oddities(metadata: Mapping[str, Any]) -> str:
    if "odd_pictures" not in metadata:
        return ""
    met = [entry for entry in metadata["odd_pictures"].values() if entry["count"]]
    if not met:
        return "None: every picture is an upright RGB JPEG that the strict decoder reads."
    rows = []
    for entry in met:
        first = ", ".join(map(code, entry["first"][:_SHOWN]))
        rows.append((escaped(entry["meaning"]), f"{entry['count']:,}", first))
    left_out = [
        f"- {code(entry['name'])} of {code(entry['split'])} was left out: {escaped(entry['reason'])}"
        for entry in metadata["left_out"][:_SHOWN]
    ]
    more = len(metadata["left_out"]) - _SHOWN
    left_out += [f"- and {more:,} more were left out"] if more > 0 else []
    return "\n".join([table(("what", "pictures", "the first"), rows), *([""] if left_out else []), *left_out])


def _identity(builder: tfds.core.DatasetBuilder, metadata: Mapping[str, Any]) -> str:
    lines = [f"- version: {code(builder.info.version)}"]
    for split, value in metadata.get("content_fingerprint", {}).items():
        lines.append(f"- content of {code(split)}: {code(value)}")
    if "source_fingerprint" in metadata:
        lines.append(f"- raw files: {code(metadata['source_fingerprint'])}")
    return "\n".join(lines)


def _terms(builder: tfds.core.DatasetBuilder) -> str:
    if builder.name == "products10k":
        return PRODUCTS10K_TERMS
    if builder.name == "drawn_catalogue":
        return "Drawn by this repository's code (Apache-2.0); free to use."
    return "Not known here: those of whoever the pictures come from. Say them before you hand the data on."


def _citation(text: str) -> str:
    lines = _encodable(text or "").strip()
    longest = max(map(len, re.findall("`+", lines)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}bibtex\n{lines}\n{fence}" if lines else ""
