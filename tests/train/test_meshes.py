"""Every mesh of eight devices computes what one device does."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from tests import meshes

ROOT = pathlib.Path(__file__).parents[2]


def test_five_steps_on_every_mesh():
  done = subprocess.run(
    [sys.executable, "-m", "tests.meshes", "few"],
    cwd=ROOT,
    env=dict(os.environ, JAX_PLATFORMS="cpu", NPROC="16"),
    capture_output=True,
    text=True,
    timeout=400,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  one = found.pop("(1, 1, 1)")
  assert len(found) == len(meshes.FEW) - 1
  assert {"ecg", "mlm", "align", "disentangle"} < one[0].keys()
  assert one[4]["loss"] < 0.99 * one[0]["loss"]  # it moves
  for shape, history in found.items():
    for step, (expected, values) in enumerate(zip(one, history, strict=True)):
      for name, value in expected.items():
        message = f"{shape} {step} {name}"
        # Adam divides: where a gradient is all but 0, rounding is a step.
        rtol = 1e-4 if step else 1e-5
        np.testing.assert_allclose(  # a bound may be close to 0
          values[name], value, rtol=rtol, atol=1e-6, err_msg=message
        )
