"""Kills real trainings at random moments and proves that they end as if nobody had: `python -m tests.chaos`.

Every round trains the smallest run in a workdir of its own. It is ended once to three times, mostly by SIGKILL, while
it starts, at a random step or in the middle of a save; of two processes one is. It is then started again, in every
other round on other hardware. Prints a line a round and last one of JSON: `rounds`, `lost` (runs that did not come to
their end, or went back behind a complete checkpoint) and `unequal`. Exit code 0 if both are 0.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # the programs run once and compile often


def main() -> int:
    from tests.chaos.comparing import Comparison
    from tests.chaos.rounds import HARDWARE, Lost, draw_round, play, undisturbed
    from tfds_builder.prepare import prepare

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn; the moments also depend on the machine")
    given = parser.parse_args()

    began, lost, unequal, ends, furthest = time.monotonic(), 0, 0, 0, 0.0
    with tempfile.TemporaryDirectory(prefix="p10k_jax-chaos-") as scratch:
        folder = Path(scratch)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        prepare("drawn_catalogue", config="tiny", data_dir=folder / "data", progress=False)
        expected = {name: undisturbed(folder / "data", folder / name, name) for name in HARDWARE}
        comparison = Comparison(folder / "data", expected)
        for number in range(given.rounds):
            plan = draw_round(given.seed, number)
            workdir = folder / f"round-{number}"
            try:
                play(plan, folder / "data", workdir)
            except Lost as error:
                lost += 1
                print(f"round {number}: {plan}: LOST: {error}", flush=True)
                continue
            difference, distance = comparison.difference(workdir, plan)
            ends, furthest = ends + len(plan.ends), max(furthest, distance)
            unequal += bool(difference)
            print(f"round {number}: {plan}: {f'UNEQUAL: {difference}' if difference else 'equal'}", flush=True)
    told = {"rounds": given.rounds, "lost": lost, "unequal": unequal, "ends": ends, "loss_difference": furthest}
    print(json.dumps(told | {"seconds": round(time.monotonic() - began)}))
    return int(bool(lost or unequal))


if __name__ == "__main__":
    sys.exit(main())
