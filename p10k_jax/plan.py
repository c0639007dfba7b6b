"""Says what a training needs of a TPU slice before one is rented: memory, FLOPs, traffic, hours.

    python -m p10k_jax.plan --config=configs/vit.py:variant=B/16 --topology=v5e:4x4,v6e:2x4

Compiles the real training and evaluation step with the TPU compiler (extra `tpu`), which needs no TPU. Exit code 0: it
fits; 3: on some slice it does not; 2: bad input; 1: the compiler gave no answer.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from p10k_jax.config import clear_errors, config_of_flags, define_config_flag, run_program
from p10k_jax.planning.child import CompilerError, check_compiler, compile_in_child
from p10k_jax.planning.compiling import Request
from p10k_jax.planning.figures import advice, phase_figures, plan_figures
from p10k_jax.planning.report import plans_text, trials_text
from p10k_jax.planning.search import Trial, best, largest_batch
from p10k_jax.planning.sizes import Sizes, dataset_sizes
from p10k_jax.planning.topologies import Topology, parse_topology
from p10k_jax.training.mesh import AXES

NO_ANSWER, DOES_NOT_FIT = 1, 3


def parse_mesh(text: str) -> dict[str, int]:
    """`data=-1,fsdp=8` to sizes; axes that are not named have size 1, and `data` takes what they leave.

    Raises:
        ValueError: an unknown axis, or what is no number.
    """
    sizes = {"data": -1, "fsdp": 1, "model": 1}
    for item in text.split(","):
        axis, _, size = item.partition("=")
        if axis not in AXES or not (size == "-1" or size.isdecimal()):
            raise ValueError(f"mesh={text!r}: give sizes of {', '.join(AXES)}, for example data=-1,fsdp=8.")
        sizes[axis] = int(size)
    return sizes


def plan(config: ConfigDict, topology: Topology, sizes: Sizes, *, mfu: float, time_limit: float) -> dict[str, Any]:
    """The figures of a config on a slice; see `docs/planning.md`.

    Raises:
        ValueError: the config cannot be trained there.
        CompilerError: the compiler gave no answer.
    """
    answer = compile_in_child(Request(config.to_dict(), topology.name, sizes), time_limit=time_limit)
    figures = plan_figures(answer, topology, sizes, mfu=mfu)
    how = {"remat": config.model.remat, "accumulate": config.optimizer.accumulate}
    return figures | {"advice": advice(figures, **how)}


def search(config: ConfigDict, topology: Topology, sizes: Sizes, *, time_limit: float) -> dict[str, Any]:
    """The largest global batch that fits: `largest_batch` (None: not even the least) and the `trials`.

    Raises:
        ValueError: the config cannot be trained there, or nothing is known of the slice's memory.
        CompilerError: the compiler gave no answer.
    """
    if topology.chip is None:
        raise ValueError(f"topology {topology.name!r} has no known memory, so no batch is too large for it.")
    memory = topology.chip.memory_bytes

    def attempt(batch_size: int) -> Trial:
        tried = config.copy_and_resolve_references()
        tried.batch_size = batch_size
        answer = compile_in_child(Request(tried.to_dict(), topology.name, sizes, False), time_limit=time_limit)
        (phase,) = answer["phases"]
        needed = phase_figures(phase, answer, topology, mfu=1.0)["total_bytes"]
        trial = Trial(batch_size, needed, min(memory, phase.get("out_of_memory", {}).get("available", memory)))
        print(f"{topology.name}: {batch_size:,} images {'fit' if trial.fits else 'do not fit'}", file=sys.stderr)
        return trial

    unit = max(1, topology.chips // config.mesh.model) * config.optimizer.accumulate
    trials = largest_batch(attempt, start=config.batch_size, unit=unit)
    found = best(trials)
    return {
        "largest_batch": found and found.batch_size,
        "trials": [one._asdict() | {"fits": one.fits} for one in trials],
    }


class Options(NamedTuple):
    """How plans are made: those of the flags that are not about the run itself."""

    mfu: float = 0.4
    time_limit: float = 3600.0
    largest_batch: bool = False


def plans(
    config: ConfigDict,
    slices: Sequence[Topology],
    meshes: Sequence[dict[str, int]],
    sizes: Sizes,
    options: Options,
) -> list[dict[str, Any]]:
    """A plan, or a search, of every slice with every mesh; where the compiler gave no answer, `error` says why.

    Raises:
        ValueError: the config cannot be trained on one of them.
    """
    told = []
    for topology in slices:
        for mesh in meshes:
            tried = config.copy_and_resolve_references()
            tried.mesh.update(mesh)
            print(f"{topology.name}: compiling ...", file=sys.stderr)
            told.append({"topology": topology.name, "mesh": dict(mesh)})
            try:
                if options.largest_batch:
                    told[-1] |= search(tried, topology, sizes, time_limit=options.time_limit)
                else:
                    told[-1] |= plan(tried, topology, sizes, mfu=options.mfu, time_limit=options.time_limit)
            except CompilerError as error:
                told[-1]["error"] = str(error)
    return told


def exit_code(told: Sequence[dict[str, Any]]) -> int:
    """0: all fit; 1: of one the compiler gave no answer; 3: one does not fit."""
    if any("error" in one for one in told):
        return NO_ANSWER
    return 0 if all(one.get("fits", one.get("largest_batch")) for one in told) else DOES_NOT_FIT


def main() -> None:
    """Reads the flags, compiles slice by slice, and prints."""
    given = flags.FLAGS
    with clear_errors():
        config = config_of_flags()
        slices = [parse_topology(name) for name in given.topology]
        meshes = [parse_mesh(text) for text in given.mesh] or [config.mesh.to_dict()]
        if not 0 < given.mfu <= 1:
            raise ValueError(f"mfu={given.mfu} is a share of the chip's peak, above 0 and at most 1.")
        if any(topology.chip for topology in slices):
            check_compiler()
        sizes = dataset_sizes(config, examples=given.examples, groups=given.groups)
        options = Options(given.mfu, given.time_limit, given.largest_batch)
        told = plans(config, slices, meshes, sizes, options)
    if given.json:
        print(json.dumps(told[0] if len(told) == 1 else told, indent=2))
    else:
        _print(told)
    sys.exit(exit_code(told))


def _print(told: Sequence[dict[str, Any]]) -> None:
    if complete := [one for one in told if "phases" in one]:
        print(plans_text(complete))
    for one in told:
        if "trials" in one:
            print(trials_text(one["topology"], one["trials"], one["largest_batch"]))
    for one in told:
        if "error" in one:
            print(f"\nerror: {one['error']}", file=sys.stderr)


def define_flags() -> None:
    """Defines this program's flags."""
    define_config_flag()
    flags.DEFINE_list("topology", None, "Slices, separated by commas: v5e:4x4, v5e-16, v6e:8x8, v5p:2x2x4, v4:2x2x2.")
    flags.DEFINE_multi_string("mesh", [], "Instead of the config's, e.g. data=-1,fsdp=8; several times to compare.")
    flags.DEFINE_integer("examples", None, "Training images, for data that is not prepared here.", lower_bound=1)
    flags.DEFINE_integer("groups", None, "Groups, likewise, for loss.group_weight.", lower_bound=1)
    flags.DEFINE_float("mfu", 0.4, "Share of the peak FLOP/s that is expected of the run, for the expected hours.")
    flags.DEFINE_bool("largest_batch", False, "Search the largest batch that fits; each try is a compilation.")
    flags.DEFINE_alias("largest-batch", "largest_batch")
    flags.DEFINE_float("time_limit", 3600.0, "Seconds after which a compilation is given up.", lower_bound=1.0)
    flags.DEFINE_bool("json", False, "Print JSON: an object, or a list of them where there are several.")


if __name__ == "__main__":
    run_program(main, define_flags, required=("config", "topology"))
