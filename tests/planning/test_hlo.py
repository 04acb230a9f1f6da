"""What is read from compiled programs, against programs that are known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from cgdmer_jax.config import slices
from cgdmer_jax.planning import estimate, hlo
from tests.steps import mesh_of


def compiled():
  """Five sums over four devices in a loop, and a gather after it."""
  mesh = mesh_of((4, 1, 1))
  rows = NamedSharding(mesh, P("data"))

  def run(x, w):
    def body(w, _):
      return w + jnp.mean(x * w[None], axis=0) * 0.1, None

    w, _ = jax.lax.scan(body, w, length=5)
    return jax.lax.with_sharding_constraint(
      x + w[None], NamedSharding(mesh, P())
    )

  x = jax.ShapeDtypeStruct((8, 256), jnp.float32, sharding=rows)
  w = jax.ShapeDtypeStruct(
    (256,), jnp.float32, sharding=NamedSharding(mesh, P())
  )
  return hlo.Program(jax.jit(run).lower(x, w).compile().as_text())


def test_collectives_count_as_often_as_they_run():
  found = {x.operation: x for x in compiled().collectives()}
  assert found.keys() == {"all-reduce", "all-gather"}
  reduced, gathered = found["all-reduce"], found["all-gather"]
  assert reduced.group == gathered.group == 4 and reduced.dtype == "f32"
  assert reduced.bytes == 5 * 2 * 256 * 4 * 3 / 4
  assert gathered.bytes == 8 * 256 * 4 * 3 / 4
  assert not reduced.crosses


def test_what_crosses_slices_takes_the_slow_network():
  chip = slices.CHIPS["v5e"]
  one, *_ = compiled().collectives()
  (other,) = (
    x
    for x in compiled().collectives(slice_size=2)
    if x.operation == one.operation
  )
  assert other.crosses and not one.crosses
  assert estimate.seconds_to_send(other, chip) == other.bytes / 3.125e9
  assert estimate.seconds_to_send(one, chip) == one.bytes / 90e9


def test_groups_in_every_notation():
  lists = hlo._groups("replica_groups={{0,2},{1,3}}, x={}")
  assert lists == hlo._groups("replica_groups=[2,2]<=[2,2]T(1,0)")
  assert lists == hlo._groups(
    "replica_groups=mesh['a'=2,'b'=2] {'a'}, dimensions={0}"
  )
  assert hlo._groups("source_target_pairs={{0,1},{1,0}}, y") == [[0, 1], [1, 0]]


TPU = """
%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %big = f32[1024,256]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %f.1 = f32[1024,256]{1,0:T(8,128)S(1)} fusion(%big), calls=%inner, 100 NAME
}
%inner (q: f32[1024,256]) -> f32[1024,256] {
  ROOT %neg = f32[1024,256]{1,0} negate(%q)
}
%limit (p.1: (s32[], f32[8])) -> pred[] {
  %c = s32[]{:T(128)} constant(12)
  ROOT %lt = pred[]{:T(512)} compare(%i, %c), direction=LT
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %w = (s32[], f32[8]{0}) while(%t), condition=%limit, body=%body
  %g = bf16[64,32]{1,0} fusion(%a), kind=kLoop, calls=%inner, 300
}
"""
for cycles in ("100", "300"):
  TPU = TPU.replace(f" {cycles}", f' x={{"estimated_cycles":"{cycles}"}}')
TPU = TPU.replace("NAME", 'op_name="jit(train_step)/jvp(Model)/while/body/up"')


def test_programs_of_tpus_say_how_long_they_take():
  program = hlo.Program(TPU)
  largest = estimate.largest(program)
  assert largest[0]["what"] == "jvp(Model)/up [f]"
  assert largest[0]["estimated_cycles"] == 12 * 100
  assert largest[0]["share"] == 0.8
  (fusion,) = (x for x in program.instructions if x.name == "f.1")
  # What it writes stays on the chip.
  assert fusion.times == 12 and program.traffic(fusion) == 1024 * 256 * 4
  found = estimate.step(program, 1.5e3, slices.CHIPS["v5e"], 1e12, 0)
  assert found["estimated_seconds"]["compiler's cycles"] == 1500 / 1.5e9
  assert found["estimated_step_seconds"] == max(
    found["estimated_seconds"].values()
  )
  assert found["estimated_mfu"] == pytest.approx(
    1.5e3 / 1e12 / found["estimated_step_seconds"]
  )
