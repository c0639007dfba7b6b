import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from p10k_jax.planning.hlo import Collective, Program, Shape
from p10k_jax.training.mesh import make_mesh

# Lines as the TPU compiler writes them, with what does not matter here left out.
TPU = """HloModule jit_step, is_scheduled=true, num_partitions=4

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{} parameter(0)
  %y = f32[]{} parameter(1)
  ROOT %sum = f32[]{} add(%x, %y)
}

%all-reduce-scatter.3 (p: f32[64,128]) -> f32[16,128] {
  %p = f32[64,128]{1,0} parameter(0)
  %all-reduce.9 = f32[64,128]{1,0} all-reduce(%p), channel_id=4, replica_groups=[1,4]<=[4], to_apply=%add
  ROOT %part = f32[16,128]{1,0} dynamic-slice(%all-reduce.9), dynamic_slice_sizes={16,128}
}

%body (state: (s32[], bf16[8,128])) -> (s32[], bf16[8,128]) {
  %state = (s32[]{}, bf16[8,128]{1,0}) parameter(0)
  %row = bf16[8,128]{1,0} get-tuple-element(%state), index=1
  %gather-start = (bf16[8,128]{1,0}, bf16[32,128]{1,0}) all-gather-start(%row), replica_groups={{0,1,2,3}}
  %gather = bf16[32,128]{1,0} all-gather-done(%gather-start)
  ROOT %next = (s32[]{}, bf16[8,128]{1,0}) tuple(%state, %row)
}

%condition (state: (s32[], bf16[8,128])) -> pred[] {
  %state.1 = (s32[]{}, bf16[8,128]{1,0}) parameter(0)
  ROOT %less = pred[]{} constant(true)
}

ENTRY %main (a: f32[64,128], b: (s32[], bf16[8,128])) -> f32[16,128] {
  %a = f32[64,128]{1,0} parameter(0)
  %b = (s32[]{}, bf16[8,128]{1,0}) parameter(1)
  %loop = (s32[], bf16[8,128]) while(%b), condition=%condition, body=%body, config={"known_trip_count":{"n":"5"}}
  %two = (f32[64,128], /*index=1*/f32[64,128]) all-reduce(%a, %a), replica_groups=mesh['data'=2,'fsdp'=2] {'data'}
  %copy-start = (f32[64,128]{1,0:S(1)}, f32[64,128]{1,0}, u32[]{:S(2)}) copy-start(%a)
  %copy-done = f32[64,128]{1,0:S(1)} copy-done(%copy-start)
  %slice-start = ((f32[64,128]{1,0}), f32[2,128]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:2], [0:128]}
  %slice-done = f32[2,128]{1,0:S(1)} slice-done(%slice-start)
  %turned = f32[64,128]{1,0} collective-permute(%a), source_target_pairs={{0,1},{1,0}}
  ROOT %fusion = f32[16,128]{1,0} fusion(%copy-done), kind=kCustom, calls=%all-reduce-scatter.3
}
"""


def test_collectives_by_kind_and_volume():
    array = 64 * 128 * 4
    assert Program(TPU).collectives(4) == {
        "all-gather": Collective(5, 5 * 32 * 128 * 2, 5 * 32 * 128 * 2 * 3 / 4),  # in a loop of five
        "all-reduce": Collective(1, 2 * array, 2 * array * 2 / 2),  # over two of the four
        "collective-permute": Collective(1, array, array),
        "reduce-scatter": Collective(1, array, array * 3 / 4),  # a fusion of the TPU compiler's
    }


def test_what_lies_on_the_chip_is_not_in_main_memory():
    array, part = 64 * 128 * 4, 2 * 128 * 4
    only = "\n".join(line for line in TPU.splitlines() if "all-reduce(" not in line and "permute(" not in line)
    only = only.replace("kind=kCustom, calls=%all-reduce-scatter.3", "kind=kLoop")
    loop = 5 * (8 + 32) * 128 * 2
    program = Program(only)
    # The copy reads and writes all, the slice its part, the fusion reads the copy and writes a quarter.
    assert program.memory_traffic() == 2 * array + 2 * part + (array + array // 4) + loop
    assert program.memory_traffic(main_memory=True) == array + part + array // 4 + loop


def test_the_largest_array_that_has_an_axis():
    assert Program(TPU).largest_with_side(64) == Shape("f32", (64, 128), True)
    assert Program(TPU).largest_with_side(9_691) is None


def test_bytes_of_types():
    sizes = {"f32": 4, "bf16": 2, "pred": 1, "u8": 1, "s64": 8, "f8e4m3fn": 1, "c64": 8, "token": 0}
    assert {name: Shape(name, (3,)).bytes // 3 for name in sizes} == sizes
    assert Shape("s4", (3,)).bytes == 2
    assert Shape("f32", ()).bytes == 4


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        Program("module @jit_step {}")


def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile()


@pytest.mark.parametrize(
    ("function", "shapes", "flops"),
    [
        (lambda a, b: a @ b, ((5, 7), (7, 3)), 2 * 5 * 7 * 3),
        (lambda a, b: jnp.einsum("bij,bjk->bik", a, b), ((4, 5, 7), (4, 7, 3)), 2 * 4 * 5 * 7 * 3),
        (lambda a, b: jax.lax.scan(lambda c, _: (c @ b, None), a, None, 6)[0], ((5, 5), (5, 5)), 6 * 2 * 5**3),
    ],
    ids=["product", "batched", "loop"],
)
def test_products_are_counted_as_often_as_they_run(function, shapes, flops):
    program = compiled(function, *(jnp.ones(shape) for shape in shapes))
    assert Program(program.as_text()).matrix_flops() == flops


@pytest.mark.parametrize(
    ("strides", "padding", "settings"),
    [
        ((1, 1), "SAME", {}),
        ((2, 2), "VALID", {}),
        ((2, 1), ((3, 2), (1, 0)), {"rhs_dilation": (2, 1)}),
        ((1, 1), ((1, 1), (2, 2)), {"lhs_dilation": (2, 3)}),
    ],
)
def test_convolutions_are_counted_as_xla_counts(strides, padding, settings):
    images, kernel = jnp.ones((2, 9, 11, 3)), jnp.ones((3, 3, 3, 8))

    def convolve(images, kernel):
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=names, **settings)

    lowered = jax.jit(convolve).lower(images, kernel)
    text = lowered.compile().as_text()
    assert "convolution(" in text
    assert Program(text).matrix_flops() == lowered.cost_analysis()["flops"]


def test_collectives_of_a_compiled_program():
    mesh = make_mesh(data=2, fsdp=4)
    split = NamedSharding(mesh, P("fsdp"))
    whole = NamedSharding(mesh, P())

    def gather(x):
        return jax.lax.with_sharding_constraint(x, whole) * 2

    x = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=split)
    text = jax.jit(gather, out_shardings=whole).lower(x).compile().as_text()
    assert Program(text).collectives(8) == {"all-gather": Collective(1, 8 * 16 * 4, 8 * 16 * 4 * 3 / 4)}

    total = jax.jit(lambda x: x.sum(axis=0), out_shardings=whole).lower(x).compile().as_text()
    assert Program(total).collectives(8) == {"all-reduce": Collective(1, 16 * 4, 2 * 16 * 4 * 3 / 4)}


def test_traffic_of_a_compiled_program_is_about_what_xla_counts():
    arguments = [jnp.ones((64, 64), np.float32)] * 3
    program = compiled(lambda a, b, c: jnp.tanh(a @ b) @ c, *arguments)
    assert Program(program.as_text()).memory_traffic() == pytest.approx(
        program.cost_analysis()["bytes accessed"], rel=0.01
    )
