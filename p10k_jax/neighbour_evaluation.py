"""Judges a run's embeddings: nearest neighbours, prototypes, retrieval, and their fusion with the head.

The part of `python -m p10k_jax.evaluate --neighbours` that knows of workdirs; the methods are in `p10k_jax.evaluation`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from p10k_jax.data.splits import Split, open_split, share_records
from p10k_jax.evaluation.files import write_table
from p10k_jax.evaluation.knn import (
    TEMPERATURE,
    best_pair,
    fuse,
    fused_first,
    fused_top,
    known_probabilities,
    prototype_probabilities,
    prototypes,
    votes,
)
from p10k_jax.evaluation.metrics import metrics
from p10k_jax.evaluation.neighbours import in_chunks, make_gallery, nearest
from p10k_jax.evaluation.predictions import TOP, Predictions, with_predictions
from p10k_jax.evaluation.retrieval import retrieval_figures
from p10k_jax.files import write_json
from p10k_jax.models.functional import Tree
from p10k_jax.reporting.progress import Console
from p10k_jax.setup import Evaluator

KS = (1, 5, 10, 20, 50, 100)
WEIGHTS = tuple(tenth / 10 for tenth in range(11))
# Where no split is there to choose on: Caron et al. use k = 20, and head and neighbours count alike.
UNCHOSEN_K, UNCHOSEN_WEIGHT = 20, 0.5
NEIGHBOURS = max(KS)
_SHOWN = 10


class Judges(NamedTuple):
    """What is passed over beside the split that is judged.

    Attributes:
        gallery: The run's training split, as evaluation sees it.
        choice: Split that k and weight are chosen on; None: the split itself, or none.
        chosen_on: Its name; None where there is none.
    """

    gallery: Evaluator
    choice: Evaluator | None
    chosen_on: str | None


def plan_judges(
    config: ConfigDict, builder: tfds.core.DatasetBuilder, split: Split, make: Callable[..., Evaluator]
) -> Judges:
    """Opens the splits.

    Args:
        config: The run's.
        builder: Its data.
        split: That is judged.
        make: `(split, embed=, neighbours=) -> Evaluator`.

    Raises:
        ValueError: the split, or the one to choose on, shares pictures with the training split.
    """
    train = open_split(builder, config.data.train_split)
    chosen_on = open_split(builder, config.eval.split) if config.eval.split else None
    for one in filter(None, (split, chosen_on)):
        if share_records(builder, train, one):
            raise ValueError(
                f"--neighbours: split {one.name!r} shares pictures with {train.name!r}, where neighbours come from, "
                "so that each would find itself. Judge a split that was not trained on."
            )
    alone = chosen_on is None or chosen_on.name == split.name
    choice = None if alone else make(chosen_on, embed=False, neighbours=NEIGHBOURS)
    return Judges(make(train, embed=True, neighbours=0), choice, chosen_on.name if chosen_on else None)


class Passes(NamedTuple):
    """Predictions, of the gallery and the split with embeddings, of the split and the choice with neighbours."""

    gallery: Predictions
    split: Predictions
    choice: Predictions | None
    chosen_on: str | None


def run_passes(judges: Judges, evaluator: Evaluator, weights: tuple[Tree, Tree], console: Console) -> Passes:
    """Embeds the training split, then finds the neighbours of the others while they are evaluated.

    Raises:
        ValueError: an embedding that is not finite.
    """

    def told(name: str) -> Callable[[int, int], None]:
        return lambda done, steps: console.live(f"{name}: batch {done:,} of {steps:,}")

    train, report = judges.gallery.run(*weights, progress=told(judges.gallery.split.name))
    console.say(f"{judges.gallery.split.name}: {report}")
    gallery = make_gallery(train.more["embedding"], train.table["label"].to_numpy())
    choice = None
    if judges.choice is not None:
        choice, report = judges.choice.run(*weights, gallery=gallery, progress=told(judges.choice.split.name))
        console.say(f"{judges.choice.split.name}: {report}")
    split, report = evaluator.run(*weights, gallery=gallery, progress=told(evaluator.split.name))
    console.say(f"{evaluator.split.name}: {report}")
    return Passes(train, split, choice, judges.chosen_on)


class Judgement(NamedTuple):
    """Figures, and by name of the method the table that they come from, and of each image its nearest neighbours."""

    figures: dict[str, Any]
    tables: dict[str, pa.Table]
    neighbours: pa.Table


def judge(passes: Passes, *, num_classes: int, console: Console | None = None) -> Judgement:
    """Everything that the embeddings say; the same on every host."""
    train_labels = passes.gallery.table["label"].to_numpy()
    split = _Found(passes.split, train_labels, num_classes)
    chosen = _choose(_Found(passes.choice, train_labels, num_classes) if passes.choice else split, passes.chosen_on)
    means, present = prototypes(passes.gallery.more["embedding"], train_labels, num_classes=num_classes)
    tables = {
        "knn": split.voted(chosen.knn_k),
        "prototypes": split.by_prototypes(means, present),
        "fused": split.fused(chosen.k, chosen.weight),
    }
    by_k = split.accuracy((1.0,))[0] if chosen.curve is None or passes.choice else chosen.curve[-1]
    named = "itself" if passes.chosen_on and passes.choice is None else passes.chosen_on
    figures = {
        "split": {"images": passes.split.table.num_rows, "embedding_size": split.embedding.shape[1]},
        "gallery": {
            "images": len(train_labels),
            "classes": int(present.sum()),
            "classes_without": int((~present).sum()),
        },
        "temperature": TEMPERATURE,
        "head": _accuracy(passes.split.table),
        "knn": _accuracy(tables["knn"])
        | {"k": chosen.knn_k, "chosen_on": named, "top1_by_k": dict(zip(map(str, KS), by_k, strict=True))},
        "prototypes": _accuracy(tables["prototypes"]),
        "fused": _accuracy(tables["fused"]) | {"k": chosen.k, "weight": chosen.weight, "chosen_on": named},
        "choice": chosen.as_figures(passes.chosen_on),
        "retrieval": {
            "gallery": split.retrieval(split.neighbour_labels, np.bincount(train_labels, minlength=num_classes)),
            "itself": split.retrieval_among_themselves(console),
        },
    }
    return Judgement(figures, tables, split.shown(passes.gallery.table["name"].to_numpy(zero_copy_only=False)))


def _accuracy(table: pa.Table) -> dict[str, float]:
    return {key: value for key, value in metrics(table).items() if key.startswith(("top1", "top5"))}


class _Found:
    """A split with its neighbours."""

    def __init__(self, predictions: Predictions, train_labels: np.ndarray, num_classes: int):
        self.table, more, self.num_classes = predictions.table, predictions.more, num_classes
        self.top = min(TOP, num_classes)
        self.labels = self.table["label"].to_numpy()
        self.places, self.similarities, self.scores = (
            more[key] for key in ("neighbours", "similarities", "neighbour_scores")
        )
        self.embedding = more.get("embedding")
        self.neighbour_labels = np.where(self.places < 0, -1, train_labels[self.places]).astype(np.int32)
        top = (
            np.array(self.table[key].to_pylist(), dtype)
            for key, dtype in (("top5_labels", "i4"), ("top5_scores", "f4"))
        )
        self.rows = (*top, self.neighbour_labels, self.similarities, self.scores)

    def _predicted(self, probabilities: Callable, arrays: tuple[np.ndarray, ...]) -> pa.Table:
        """Predictions by the probabilities; a class that has none is no prediction, and -1 stands in its place."""

        def step(*rows):
            scores, labels = jax.lax.top_k(probabilities(*rows), self.top)
            return jnp.where(scores > 0, labels, -1), scores

        return with_predictions(self.table, *in_chunks(jax.jit(step), arrays))

    def voted(self, k: int) -> pa.Table:
        """Predictions by the votes of the k nearest."""

        def probabilities(labels, similarities):
            return votes(labels[:, :k], similarities[:, :k], num_classes=self.num_classes)

        return self._predicted(probabilities, (self.neighbour_labels, self.similarities))

    def by_prototypes(self, means: np.ndarray, present: np.ndarray) -> pa.Table:
        """Predictions by the nearest prototype."""
        means, present = jax.device_put((means, present))
        return self._predicted(lambda rows: prototype_probabilities(rows, means, present), (self.embedding,))

    def _head(self, top_labels, top_scores, labels, scores):
        return known_probabilities(top_labels, top_scores, labels, scores, num_classes=self.num_classes)

    def fused(self, k: int, weight: float) -> pa.Table:
        """Predictions by head and votes together."""
        if weight == 1:  # the head says nothing, not even between equals
            return self.voted(k)

        def step(top_labels, top_scores, labels, similarities, scores):
            vote = votes(labels[:, :k], similarities[:, :k], num_classes=self.num_classes)
            fused = fuse(self._head(top_labels, top_scores, labels, scores), vote, jnp.float32(weight))
            return fused_top(fused, top_labels, self.top)

        return with_predictions(self.table, *in_chunks(jax.jit(step), self.rows))

    def accuracy(self, weights: tuple[float, ...]) -> list[list[float]]:
        """Top-1 after fusion by weight and number of neighbours (`KS`)."""

        def step(top_labels, top_scores, labels, similarities, scores):
            head = self._head(top_labels, top_scores, labels, scores)
            return fused_first(head, top_labels, labels, similarities, ks=KS, weights=weights)

        first = in_chunks(jax.jit(step), self.rows)
        return [[float((column == self.labels).mean()) for column in by_k.T] for by_k in np.moveaxis(first, 1, 0)]

    def retrieval(self, neighbour_labels: np.ndarray, counts: np.ndarray) -> dict[str, float | int]:
        """Retrieval among images of which each class has so many."""
        return retrieval_figures(self.labels, neighbour_labels, counts[self.labels])

    def retrieval_among_themselves(self, console: Console | None) -> dict[str, float | int]:
        """Retrieval among the images of the split itself, without the query."""

        def progress(done: int, size: int) -> None:
            if console is not None:
                console.live(f"neighbours within the split: {done:,} of {size:,}")

        places, _ = nearest(self.embedding, self.embedding, NEIGHBOURS, same_set=True, progress=progress)
        found = np.where(places < 0, -1, self.labels[places])
        return self.retrieval(found, np.bincount(self.labels, minlength=self.num_classes) - 1)

    def shown(self, names: np.ndarray) -> pa.Table:
        """Of each image the names, labels and similarities of the nearest training images, at most ten."""
        there = self.places[:, :_SHOWN] >= 0
        columns = (names[self.places[:, :_SHOWN]], self.neighbour_labels[:, :_SHOWN], self.similarities[:, :_SHOWN])

        def lists(values: np.ndarray) -> Iterator[np.ndarray]:
            return (row[real] for row, real in zip(values, there, strict=True))

        kinds = (pa.string(), pa.int32(), pa.float32())
        arrays = [pa.array(list(lists(c)), pa.list_(kind)) for c, kind in zip(columns, kinds, strict=True)]
        return pa.table([self.table["name"], *arrays], names=["name", "neighbours", "neighbour_labels", "similarities"])


class _Chosen(NamedTuple):
    """What was chosen: k for votes alone, k and weight for fusion; and from what top-1, None for unchosen."""

    knn_k: int
    k: int
    weight: float
    curve: list[list[float]] | None

    def as_figures(self, split: str | None) -> dict[str, Any] | None:
        if self.curve is None:
            return None
        columns = np.array(self.curve).T.tolist()
        return {"split": split, "weights": list(WEIGHTS), "top1_by_k": dict(zip(map(str, KS), columns, strict=True))}


def _choose(found: _Found, chosen_on: str | None) -> _Chosen:
    if chosen_on is None:
        return _Chosen(UNCHOSEN_K, UNCHOSEN_K, UNCHOSEN_WEIGHT, None)
    curve = found.accuracy(WEIGHTS)
    weight, k = best_pair(np.array(curve))
    return _Chosen(KS[int(np.argmax(curve[-1]))], KS[k], WEIGHTS[weight], curve)


def write_judgement(folder: Path, judgement: Judgement, said: dict[str, Any]) -> dict[str, Any]:
    """Writes `neighbours.json`, `neighbours.parquet` and `predictions_<method>.parquet`, each whole or not at all.

    Args:
        folder: `eval/<split>` of a workdir.
        judgement: What to write.
        said: The checkpoint's step and the settings, which all of them say.

    Returns:
        The figures as written.
    """
    how = {key: judgement.figures[key] for key in judgement.tables}
    for method, table in judgement.tables.items():
        settings = {key: how[method][key] for key in ("k", "weight", "chosen_on") if key in how[method]}
        write_table(folder / f"predictions_{method}.parquet", table, said | settings)
    write_table(folder / "neighbours.parquet", judgement.neighbours, said)
    figures = said | judgement.figures
    write_json(folder / "neighbours.json", figures)
    return figures


def neighbours_summary(figures: dict[str, Any]) -> str:
    """The figures in a few aligned lines."""

    def chosen(method: str) -> str:
        row = figures[method]
        on = f"chosen on {row['chosen_on']}" if row["chosen_on"] else "not chosen"
        return f"k={row['k']}" + (f", weight {row['weight']}" if "weight" in row else "") + f" ({on})"

    notes = {"head": "", "knn": chosen("knn"), "prototypes": "", "fused": chosen("fused")}
    lines = [f"  {'':>14}  {'top1':>6}  {'top5':>6}"]
    for method, note in notes.items():
        row = figures[method]
        lines.append(f"  {method:>14}  {row['top1']:.4f}  {row['top5']:.4f}  {note}".rstrip())
    for where, row in figures["retrieval"].items():
        values = [f"{key.replace('_at_', '@')} {value:.4f}" for key, value in row.items() if "_at_" in key]
        lines.append(f"  {'in ' + where:>14}  {'  '.join(values)}")
    return "\n".join(lines)
