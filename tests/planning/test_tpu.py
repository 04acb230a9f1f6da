"""Steps that the compiler of TPUs accepts: `make plan-test`.

Minutes each, so only where CGDMER_PLAN_TEST is set and libtpu is installed.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
  not os.environ.get("CGDMER_PLAN_TEST")
  or importlib.util.find_spec("libtpu") is None,
  reason="needs CGDMER_PLAN_TEST and libtpu; see make plan-test",
)


@pytest.mark.parametrize("size", ["tiny", "base"])
@pytest.mark.parametrize("name", ["v5e-8", "v5p-8"])
def test_a_step_fits_and_sums_gradients_in_float32(size, name, tmp_path):
  subprocess.run(
    [
      *(sys.executable, "-m", "cgdmer_jax.main"),
      f"--config=configs/plan.py:{size},topology={name}",
      f"--workdir={tmp_path}",
    ],
    cwd=ROOT,
    check=True,
  )
  plan = json.loads((tmp_path / f"plan-{size}-{name}.json").read_text())
  assert plan["fits"] and plan["peak_bytes"] < plan["hbm_bytes"]
  assert plan["compile_seconds"] > 0 and plan["largest"]
  sums = [
    x
    for x in plan["collectives"]
    if x["operation"] in ("all-reduce", "reduce-scatter")
  ]
  assert {x["dtype"] for x in sums} <= {"f32", "s32", "u32", "pred"}
  sent = sum(x["bytes_sent"] for x in sums if x["dtype"] == "f32")
  n = plan["devices"]
  assert sent == pytest.approx(
    2 * 4 * plan["parameters"] * (n - 1) / n, rel=0.1
  )
