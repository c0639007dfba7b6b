"""What a compiled program says of itself, in plain values."""

from typing import Any

import jax

from p10k_jax.planning.hlo import Program


def compiled_figures(program: jax.stages.Compiled, classes: int) -> dict[str, Any]:
    """Of one run of it, on each device, in bytes and operations: `flops`, `bytes`, `memory_traffic`, `memory`,
    `collectives`, and `all_classes`, its largest array with a side of `classes`, the width of the whole classifier with
    its padding: what no chip should hold where that is split."""
    memory, cost = program.memory_analysis(), program.cost_analysis()
    text = Program(program.as_text())
    flops, traffic = text.matrix_flops(loops=False), text.memory_traffic(loops=False)
    wide = text.largest_with_side(classes)
    return {
        # XLA counts the body of a loop once.
        "flops": cost["flops"] + text.matrix_flops() - flops,
        "bytes": cost["bytes accessed"] * (text.memory_traffic() / traffic if traffic else 1.0),
        "memory_traffic": text.memory_traffic(main_memory=True),
        "memory": {
            "argument": memory.argument_size_in_bytes,
            "output": memory.output_size_in_bytes,
            "alias": memory.alias_size_in_bytes,
            "temporary": memory.temp_size_in_bytes,
            "code": memory.generated_code_size_in_bytes,
        },
        "collectives": {kind: one._asdict() for kind, one in text.collectives(_num_devices(program)).items()},
        "all_classes": wide and {"type": wide.type, "sizes": list(wide.sizes), "bytes": wide.bytes},
    }


def _num_devices(program: jax.stages.Compiled) -> int:
    return max(len(sharding.device_set) for sharding in jax.tree.leaves(program.output_shardings))
