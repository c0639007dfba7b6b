"""What a build met and made: tallied while it runs, stored with the dataset, shown at its end."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence

from tfds_builder.processing import ODD_KINDS, Processed

_FIRST = 10  # names kept of each odd kind
_MODULUS = 1 << 256


class UnreadablePicturesError(ValueError):
    """Pictures that no decoder reads; the message lists all names and how to leave them out."""


@dataclasses.dataclass
class Tally:
    """Counts of a running build, or of one shard of it. Only the writing thread adds to it, in a fixed order."""

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    rungs: Counter[str] = dataclasses.field(default_factory=Counter)
    odd_counts: Counter[str] = dataclasses.field(default_factory=Counter)
    odd_first: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    unreadable: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)  # (split, name, reason)
    sums: Counter[str] = dataclasses.field(default_factory=Counter)
    stored_bytes: int = 0

    def add(self, split: str, name: str, label: int, group: int, usage: str, result: Processed) -> None:
        """Counts one picture, readable or not."""
        for kind in result.odd:
            self.odd_counts[kind] += 1
            if len(self.odd_first.setdefault(kind, [])) < _FIRST:
                self.odd_first[kind].append(name)
        if result.data is None:
            self.unreadable.append((split, name, result.reason))
            return
        self.counts[split] += 1
        self.rungs[result.rung] += 1
        self.stored_bytes += len(result.data)
        self.sums[split] = (self.sums[split] + example_hash(name, label, group, usage, result.digest)) % _MODULUS

    def merge(self, later: "Tally") -> None:
        """Adds the counts of the pictures that come after those counted here."""
        for mine, other in (
            (self.counts, later.counts),
            (self.rungs, later.rungs),
            (self.odd_counts, later.odd_counts),
        ):
            mine.update(other)
        for kind, names in later.odd_first.items():
            self.odd_first[kind] = [*self.odd_first.get(kind, []), *names][:_FIRST]
        self.unreadable += later.unreadable
        for split, value in later.sums.items():
            self.sums[split] = (self.sums[split] + value) % _MODULUS
        self.stored_bytes += later.stored_bytes

    def to_json(self) -> dict:
        """All of it; `of_json` is the way back."""
        return vars(self)

    @classmethod
    def of_json(cls, value: dict) -> "Tally":
        """The tally that `to_json` wrote down."""
        counters = {name: Counter(value[name]) for name in ("counts", "rungs", "odd_counts", "sums")}
        return cls(**{**value, **counters, "unreadable": [tuple(one) for one in value["unreadable"]]})

    def metadata(self) -> dict[str, object]:
        """JSON-ready part of the dataset's metadata."""
        return {
            "counts": dict(self.counts),
            "content_fingerprint": {split: f"{self.sums[split]:064x}" for split in self.counts},
            "odd_pictures": {
                kind: {"meaning": meaning, "count": self.odd_counts[kind], "first": self.odd_first.get(kind, [])}
                for kind, meaning in ODD_KINDS.items()
            },
            "decoded_by": dict(self.rungs),
            "left_out": [{"split": split, "name": name, "reason": reason} for split, name, reason in self.unreadable],
            "stored_bytes": self.stored_bytes,
        }

    def assert_readable(self) -> None:
        """Raises UnreadablePicturesError if any picture was unreadable, with all names."""
        if self.unreadable:
            lines = "\n".join(f"  {split}: {name}: {reason}" for split, name, reason in self.unreadable)
            raise UnreadablePicturesError(
                f"{len(self.unreadable)} picture(s) cannot be read, and nothing was prepared:\n{lines}\nReplace them, "
                "or leave them out, their names recorded: --leave_out_unreadable; of a training "
                "--config.data.leave_out_unreadable=True."
            )


def example_hash(name: str, label: int, group: int, usage: str, picture_digest: bytes) -> int:
    """The term of one example in the content fingerprint of its split.

    The fingerprint is the sum, modulo 2**256, over the examples of a split of
    sha256(name NUL label NUL group NUL usage NUL sha256(stored bytes)) in UTF-8, decimal numbers and raw digest bytes,
    read as a big-endian integer. A sum does not depend on the order of examples, on shards or on workers.
    """
    head = "\0".join((name, str(label), str(group), usage, "")).encode()
    return int.from_bytes(hashlib.sha256(head + picture_digest).digest(), "big")


def render(
    metadata: dict, *, title: str, path: str, seconds: float | None = None, peak_bytes: int | None = None
) -> str:
    """The closing words of a build as lines of text; `metadata` is that of the prepared dataset."""
    counts = metadata["counts"]
    total = sum(counts.values())
    lines = [title, ""]
    lines += [f"  {split:<12}{count:>9,} pictures" for split, count in counts.items()]
    if usage := metadata.get("test_usage"):
        lines.append(f"  {'':<12}{'':>9} test: " + ", ".join(f"{count:,} {name}" for name, count in usage.items()))
    lines += [
        f"  {'in total':<12}{total:>9,} pictures, {metadata['stored_bytes'] / 1e6:,.1f} MB",
        f"  {'classes':<12}{metadata['num_classes']:>9,}",
        f"  {'groups':<12}{metadata['num_groups']:>9,}",
        "",
        "  odd pictures",
        *_odd_lines(metadata["odd_pictures"], metadata["left_out"]),
        "",
        "  fingerprint of the content",
        *(f"  {split:<12}{value}" for split, value in metadata["content_fingerprint"].items()),
        f"  {'raw files':<12}{metadata['source_fingerprint']}",
        "",
        f"  prepared in {path}",
    ]
    if seconds is not None:
        memory = f", peak memory {peak_bytes / 1e6:,.0f} MB" if peak_bytes else ""
        lines.append(f"  {seconds:,.1f} s, {total / max(seconds, 1e-9):,.0f} pictures a second{memory}")
    return "\n".join(lines)


def _odd_lines(odd: dict[str, dict], left_out: Sequence[dict]) -> list[str]:
    met = {kind: entry for kind, entry in odd.items() if entry["count"]}
    if not met:
        return ["    none: every picture is an upright RGB JPEG that the strict decoder reads"]
    width = max(len(entry["meaning"]) for entry in met.values()) + 2
    lines = []
    for kind, entry in met.items():
        names = ", ".join(entry["first"][:3]) + (", …" if entry["count"] > 3 else "")
        tail = " (left out)" if kind == "unreadable" and left_out else ""
        lines.append(f"    {entry['meaning']:<{width}}{entry['count']:>7,}  {names}{tail}")
    return lines
