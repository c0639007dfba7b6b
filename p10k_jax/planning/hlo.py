"""What an optimised program says of itself in XLA's text form: traffic between chips, loops, and bytes in memory.

XLA's own cost analysis counts the body of a loop once. Here every computation is counted as often as it is executed.
"""

import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# Instructions that name values and move nothing.
_FREE = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "call", "conditional", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "add-dependency"),
}
_SHAPE = re.compile(r"(?P<type>pred|token|opaque|[a-z]+\d+\w*)\[(?P<sizes>[\d,]*)\](?P<layout>\{[^}]*\})?")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%(?P<name>[\w.\-]+) \(.*\{$")


class Shape(NamedTuple):
    """An array's: `type` such as `bf16`, `sizes`, and whether it lies in the accelerator's main memory."""

    type: str
    sizes: tuple[int, ...]
    in_main_memory: bool = True

    @property
    def bytes(self) -> int:
        """Without padding."""
        if self.type in ("token", "opaque"):
            return 0
        bits = 8 if self.type == "pred" else int(re.search(r"\d+", self.type)[0])
        return -(-math.prod(self.sizes) * bits // 8)


class Instruction(NamedTuple):
    """One line: what it gives, what it does, the names of what it takes, and the rest of the line."""

    name: str
    shapes: tuple[Shape, ...]
    operation: str
    operands: tuple[str, ...]
    attributes: str

    def called(self) -> list[str]:
        """Computations that it runs; those that combine two elements of a reduction are not among them."""
        names = re.findall(
            r"\b(?:calls|body|condition|true_computation|false_computation)=%([\w.\-]+)", self.attributes
        )
        if self.operation == "call":
            names += re.findall(r"\bto_apply=%([\w.\-]+)", self.attributes)
        for several in re.findall(r"\bbranch_computations=\{([^}]*)\}", self.attributes):
            names += re.findall(r"%([\w.\-]+)", several)
        return names

    def trips(self) -> int:
        """How often a loop runs; 1 for what is none, or does not say."""
        known = self.operation == "while" and re.search(r"known_trip_count\W+n\W+(\d+)", self.attributes)
        return int(known[1]) if known else 1


class Collective(NamedTuple):
    """Traffic of one kind a step and chip.

    Attributes:
        count: How many.
        bytes: Of the arrays: what a gather gives, what the others take.
        sent: Bytes that a chip sends at least, over all its links together: of n chips, (n-1)/n of the array for a
            gather, a scatter and an all-to-all, twice that for an all-reduce, and all of it for a permute.
    """

    count: int
    bytes: int
    sent: float


class Program:
    """An optimised program out of `Compiled.as_text()`."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        instructions = None
        for line in text.splitlines():
            if match := _COMPUTATION.match(line):
                instructions = self.computations[match["name"]] = {}
                self.entry = match["name"] if match["entry"] else self.entry
            elif instructions is not None and (match := _INSTRUCTION.match(line)):
                instruction = _instruction(match["name"], match["rest"])
                instructions[instruction.name] = instruction
        if not self.entry:
            raise ValueError("This is no program in XLA's text form: it has no ENTRY.")

    def executions(self, *, loops: bool = True) -> Counter[str]:
        """How often each computation is executed; without `loops`, their bodies once."""
        counts: Counter[str] = Counter()
        pending = [(self.entry, 1)]
        while pending:
            name, times = pending.pop()
            counts[name] += times
            for instruction in self.computations[name].values():
                inner = times * (instruction.trips() if loops else 1)
                pending += [(called, inner) for called in instruction.called() if called in self.computations]
        return counts

    @functools.cached_property
    def fused(self) -> frozenset[str]:
        """Computations inside one instruction: their values are in no memory."""
        names = set()
        for instructions in self.computations.values():
            for one in instructions.values():
                if one.operation == "fusion" or one.operation.endswith("-start"):
                    names |= set(one.called())
        return frozenset(names)

    def matrix_flops(self, *, loops: bool = True) -> float:
        """Floating-point operations of products and convolutions; a multiply and an add are two."""
        total = 0.0
        for name, times in self.executions(loops=loops).items():
            total += times * sum(
                _matrix_flops(one, self.computations[name]) for one in self.computations[name].values()
            )
        return total

    def memory_traffic(self, *, loops: bool = True, main_memory: bool = False) -> int:
        """Bytes that instructions take and give; with `main_memory`, of arrays that lie there and not on the chip."""
        total = 0
        for name, times in self.executions(loops=loops).items():
            if name in self.fused:
                continue
            instructions = self.computations[name]
            total += times * sum(_traffic(one, instructions, main_memory) for one in instructions.values())
        return total

    def largest_with_side(self, size: int) -> Shape | None:
        """The largest array outside fusions that has an axis of that size: one that holds it all on one chip."""
        shapes = (
            shape
            for name in self.executions()
            if name not in self.fused
            for one in self.computations[name].values()
            for shape in one.shapes
            if size in shape.sizes
        )
        return max(shapes, key=lambda shape: shape.bytes, default=None)

    def collectives(self, chips: int) -> dict[str, Collective]:
        """Traffic between chips by kind, of those that there are; `chips` exchange where it does not say how many."""
        found: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
        for times, kind, taken, given, group in self._collectives():
            size = given if kind == "all-gather" else taken
            share = 1 - 1 / (group or chips)
            sent = size * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(kind, share)
            for place, value in enumerate((1, size, sent)):
                found[kind][place] += times * value
        return {kind: Collective(int(n), int(size), sent) for kind, (n, size, sent) in sorted(found.items())}

    def _collectives(self) -> Iterator[tuple[int, str, int, int, int]]:
        """(times, kind, bytes taken, bytes given, chips)."""
        # The TPU's reduce-scatter is an all-reduce and a slice in one fusion of this name.
        scatters = {name for name in self.computations if name.startswith("all-reduce-scatter")}
        for name, times in self.executions().items():
            instructions = self.computations[name]
            for one in instructions.values():
                kind = one.operation.removesuffix("-start")
                if kind not in COLLECTIVES:
                    continue
                taken = sum(_bytes_of(operand, instructions) for operand in one.operands)
                given = sum(shape.bytes for shape in one.shapes)
                if one.operation.endswith("-start"):
                    given -= taken  # it gives what it takes too
                    given = taken if kind in ("all-reduce", "collective-permute") else given
                yield times, "reduce-scatter" if name in scatters else kind, taken, given, _chips(one)


def _instruction(name: str, rest: str) -> Instruction:
    if rest.startswith("("):
        end = _closing(rest, 0) + 1
        given, rest = rest[:end], rest[end:].lstrip()
    else:
        given, _, rest = rest.partition(" ")
    operation, _, _ = rest.partition("(")
    end = _closing(rest, len(operation)) if "(" in rest else len(rest)
    operands = re.findall(r"%([\w.\-]+)", rest[len(operation) : end])
    return Instruction(name, _shapes(given), operation.strip(), tuple(operands), rest[end + 1 :])


def _closing(text: str, start: int) -> int:
    depth = 0
    for match in re.finditer(r"[()]", text[start:]):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return start + match.start()
    return len(text) - 1


def _shapes(text: str) -> tuple[Shape, ...]:
    return tuple(
        Shape(
            match["type"],
            tuple(int(size) for size in match["sizes"].split(",") if size),
            not re.search(r"S\([1-9]", match["layout"] or ""),
        )
        for match in _SHAPE.finditer(text)
    )


def _bytes_of(name: str, instructions: dict[str, Instruction]) -> int:
    return sum(shape.bytes for shape in instructions[name].shapes) if name in instructions else 0


def _traffic(one: Instruction, instructions: dict[str, Instruction], main_memory: bool) -> int:
    free = one.operation in _FREE or one.operation.endswith(("-done", "-update"))
    if free or 'custom_call_target="ConcatBitcast"' in one.attributes:
        return 0

    def counted(shapes: Iterator[Shape]) -> int:
        return sum(shape.bytes for shape in shapes if shape.in_main_memory or not main_memory)

    taken = [shape for name in one.operands if name in instructions for shape in instructions[name].shapes]
    given = list(one.shapes)
    if one.operation.endswith("-start"):  # gives what it takes too, and a word to wait for
        for shape in taken:
            if shape in given:
                given.remove(shape)
        given = [shape for shape in given if shape.sizes]
    if one.operation in ("slice", "dynamic-slice", "gather", "slice-start"):  # reads as much as it gives
        taken = [shape._replace(in_main_memory=taken[0].in_main_memory) for shape in given]
    elif one.operation == "dynamic-update-slice":
        given = taken = taken[1:2]
    return counted(given) + counted(taken)


def _chips(one: Instruction) -> int:
    """How many chips exchange; 0 where it does not say."""
    groups = one.attributes.partition("replica_groups=")[2]
    if match := re.match(r"\[(\d+),(\d+)\]", groups):
        return int(match[2])
    if match := re.match(r"\{\{([\d,]*)\}", groups):
        return match[1].count(",") + 1
    if match := re.match(r"mesh\[([^\]]*)\][^{]*\{([^}]*)\}", groups):
        sizes = dict(re.findall(r"'([^']*)'=(\d+)", match[1]))
        axes = re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", match[2])  # `'data':(2)4` is a part of an axis
        return math.prod(int(part or sizes.get(axis, 1)) for axis, part in axes)
    return 0


def _matrix_flops(one: Instruction, instructions: dict[str, Instruction]) -> float:
    if one.operation not in ("dot", "convolution") or any(name not in instructions for name in one.operands):
        return 0.0
    left, right = (instructions[name].shapes[0].sizes for name in one.operands)
    out = one.shapes[0].sizes
    if one.operation == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.attributes)
        axes = [int(axis) for axis in contracted[1].split(",") if axis] if contracted else []
        return 2.0 * math.prod(out) * math.prod(left[axis] for axis in axes)
    return _convolution_flops(one.attributes, left, right, out)


def _convolution_flops(attributes: str, left: tuple, right: tuple, out: tuple) -> float:
    """Padding and holes are no operations: as `HloCostAnalysis::HandleConvolution` of XLA counts."""
    of_left, of_right, of_out = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes).groups()
    window = dict(re.findall(r"(\w+)=(\S+)", (re.search(r"window=\{([^}]*)\}", attributes) or ["", ""])[1]))
    places = 1
    for dim in (label for label in of_out if label.isdigit()):

        def along(setting: str, default: str, dim=int(dim)) -> str:
            return window[setting].split("x")[dim] if setting in window else default

        stride, holes_left, holes_right = (int(along(s, "1")) for s in ("stride", "lhs_dilate", "rhs_dilate"))
        low = int(along("pad", "0_0").split("_")[0])
        sides = left[of_left.index(dim)], right[of_right.index(dim)], out[of_out.index(dim)]
        places *= _valid_places(*sides, stride, low, holes_left, holes_right)
    groups = re.search(r"batch_group_count=(\d+)", attributes)
    batch = left[of_left.index("b")] // (int(groups[1]) if groups else 1)
    return 2.0 * batch * places * right[of_right.index("i")] * right[of_right.index("o")]


@functools.cache
def _valid_places(side: int, kernel: int, out: int, stride: int, low: int, holes_left: int, holes_right: int) -> int:
    """Pairs of a kernel's and an output's place along an axis that meet a value of the input."""
    return sum(
        (at := place * stride - low + tap * holes_right) % holes_left == 0 and 0 <= at // holes_left < side
        for tap in range(kernel)
        for place in range(out)
    )
