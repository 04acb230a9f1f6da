"""Losses of five steps on many meshes of eight fake devices, as JSON.

    NPROC=16 python -m tests.meshes [few]

With `few`, on those that test_meshes.py has time for. Not a test by itself: the
number of devices is one for a whole process.
"""

import json
import sys

import jax

from tests import small
from tests.steps import run_steps

SHAPES = (
  *((1, 1, 1), (2, 1, 1), (4, 1, 1), (8, 1, 1)),
  *((1, 4, 1), (2, 2, 1), (2, 2, 2)),
)


FEW = (1, 1, 1), (2, 2, 2)


def losses(shapes):
  config = small.config()
  with config.unlocked():
    config.optim.update(muon_lr=0.0, warmup_ratio=0.0)  # compiles sooner
    config.loss.update(disentangle_form="club", positives="statement")
    config.loss.alignment = "sigmoid"  # the other one: test_train_step.py
    config.augment.update(gain=0.1, lead_gain=0.05, rotation=5.0, noise=0.02)
    config.augment.lowpass = (20.0, 60.0)
  found = {}
  for shape in shapes:
    _, history = run_steps(config, shape, 5)
    found[str(shape)] = [{k: float(v) for k, v in m.items()} for m in history]
  return found


if __name__ == "__main__":
  jax.config.update("jax_num_cpu_devices", 8)
  print(json.dumps(losses(FEW if sys.argv[1:] else SHAPES)))
