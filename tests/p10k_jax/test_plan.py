"""The program, with a compiler that is none; and as a command, for CPU devices."""

import json

import pytest

from configs import vit
from p10k_jax import plan as program
from p10k_jax.planning.child import CompilerError
from p10k_jax.planning.sizes import Sizes
from p10k_jax.planning.topologies import parse_topology
from tests.runs import flags, start

GIB = 2**30
SIZES = Sizes(train=1000, evaluation=0, num_classes=10, num_groups=0, source="a test")
# What `docs/planning.md` promises scripts.
KEYS = {"topology", "chips", "mesh", "flops_per_image", "bytes_per_image", "temporary_bytes", "total_bytes"} | {
    *("chip_memory_bytes", "fits", "excess_bytes", "collectives", "memory", "phases", "evaluation", "data", "advice"),
    *("images_per_second", "bound_by", "hours", "chip_hours", "expected_hours", "mfu", "batch_size", "total_steps"),
}


def compiled(request):
    """What a compiler might say: a state of 1 GiB, and 1 GiB for every 100 images a chip."""
    chips = 4
    needed = int((1 + request.config["batch_size"] / chips / 100) * GIB)
    phase = {"description": "training", "steps": 10, "images": request.config["batch_size"], "seconds": 1.0}
    if needed > 15 * GIB:
        phase |= {"out_of_memory": {"needed": needed, "available": 15 * GIB}}
    else:
        memory = {"argument": GIB, "output": GIB, "alias": GIB, "temporary": needed - GIB, "code": 0}
        phase |= {"flops": 1e12, "bytes": 1e9, "memory_traffic": 1e9, "memory": memory, "collectives": {}}
        phase |= {"all_classes": None}
    state = {"parameters": GIB // 2, "optimizer": GIB // 2, "averages": 0, "batch_stats": 0}
    answer = {"mesh": dict(request.config["mesh"]) | {"data": 4}, "batch_size": request.config["batch_size"]}
    return answer | {"state": state, "batch": 1000, "canvas_size": 256, "total_steps": 10, "phases": [phase]}


@pytest.fixture
def told(monkeypatch):
    """Plans with a compiler that is none: `(slices, meshes, **options) -> plans`."""

    def make(names, meshes=({"data": -1, "fsdp": 1, "model": 1},), child=compiled, batch_size=256, **options):
        monkeypatch.setattr(program, "compile_in_child", lambda request, *, time_limit: child(request))
        config = vit.get_config("variant=Ti/16")
        config.batch_size = batch_size
        slices = [parse_topology(name) for name in names]
        return program.plans(config, slices, meshes, SIZES, program.Options(**options))

    return make


def test_a_plan_has_what_scripts_read(told):
    (plan,) = told(["v5e:2x2"])
    assert plan.keys() >= KEYS
    assert (plan["topology"], plan["chips"], plan["fits"]) == ("v5e:2x2", 4, True)
    assert plan["total_bytes"] == int(1.64 * GIB)
    assert json.loads(json.dumps(plan)) == plan
    assert program.exit_code([plan]) == 0


def test_slices_and_meshes_stand_side_by_side(told, capsys):
    meshes = [program.parse_mesh(text) for text in ("data=-1", "fsdp=4")]
    plans = told(["v5e:2x2", "v6e:2x2"], meshes)
    assert [(plan["topology"], plan["mesh"]["fsdp"]) for plan in plans] == [
        *(("v5e:2x2", 1), ("v5e:2x2", 4)),
        *(("v6e:2x2", 1), ("v6e:2x2", 4)),
    ]
    program._print(plans)
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["v5e:2x2", "v5e:2x2", "v6e:2x2", "v6e:2x2"]
    assert any(row.split() == ["fits", "yes", "yes", "yes", "yes"] for row in rows)


def test_what_does_not_fit_says_by_how_much_and_what_to_change(told, capsys):
    plans = told(["v5e:2x2"], batch_size=4 * 2000)
    assert program.exit_code(plans) == 3
    assert plans[0]["excess_bytes"] == 6 * GIB
    program._print(plans)
    text = capsys.readouterr().out
    for part in ("no, 6.44 too much", "--config.model.remat=blocks", "--config.optimizer.accumulate=2"):
        assert part in text


def test_a_compiler_that_dies_leaves_the_other_slices(told, capsys):
    def dies(request):
        if request.topology == "v6e:2x2":
            raise CompilerError("v6e:2x2: the compiler died of SIGSEGV")
        return compiled(request)

    plans = told(["v6e:2x2", "v5e:2x2"], child=dies)
    assert program.exit_code(plans) == 1
    assert ("error" in plans[0], plans[1]["fits"]) == (True, True)
    program._print(plans)
    said = capsys.readouterr()
    assert "died of SIGSEGV" in said.err
    assert "v5e:2x2" in said.out


def test_the_largest_batch(told, capsys):
    (found,) = told(["v5e:2x2"], largest_batch=True)
    assert found["largest_batch"] == 4 * 1400  # 15 GiB, 1 for the state and 1 for every 100 images of a chip
    assert len(found["trials"]) < 10
    assert program.exit_code([found]) == 0
    program._print([found])
    assert "largest batch that fits: 5,600" in capsys.readouterr().out


def test_a_slice_that_is_too_small_for_any_batch(told):
    def never(request):
        answer = compiled(request)
        answer["phases"][0]["out_of_memory"] = {"needed": 20 * GIB, "available": 15 * GIB}
        return answer

    plans = told(["v5e:2x2"], child=never, largest_batch=True)
    assert plans[0]["largest_batch"] is None
    assert program.exit_code(plans) == 3


def test_cpus_have_no_largest_batch(told):
    with pytest.raises(ValueError, match="no known memory"):
        told(["cpu:8"], largest_batch=True)


@pytest.mark.parametrize("text", ["fdsp=8", "data", "fsdp=two", "fsdp=-2"])
def test_a_mesh_that_is_none(text):
    with pytest.raises(ValueError, match=r"give sizes of data, fsdp, model"):
        program.parse_mesh(text)


def test_command_line(tiny_data):
    arguments = [word for word in flags(tiny_data, tiny_data) if not word.startswith("--workdir")]
    process = start(
        "plan", [*arguments, "--config.model.options.depth=1", "--topology=cpu:4", "--nolargest-batch", "--json"]
    )
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    plan = json.loads(output.partition("compiling ...\n")[2])
    assert plan.keys() >= KEYS
    assert plan["data"]["source"] == "drawn_catalogue/tiny, prepared"
    assert [plan["chips"], plan["batch_size"], plan["total_steps"]] == [4, 16, 30]
    assert plan["evaluation"]["flops_per_image"] < plan["flops_per_image"] / 2


def test_bad_input_is_exit_code_2(tmp_path):
    arguments = ["--config=configs/vit.py:variant=Ti/16", f"--config.data.data_dir={tmp_path}"]
    process = start("plan", [*arguments, "--config.data.name=sku_catalogue", "--topology=cpu:4"])
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "give --examples=N" in output
