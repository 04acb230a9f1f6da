"""A fine-tuned classifier as a folder.

`finetune` leaves one for each fraction of the labels, beside its result:
`results/finetune-.../<encoder>-<key>/finetune_10/`

- `model.safetensors`: parameters by path, such as `ecg_encoder/...`; those of
  the head are `head/kernel` (width, L) and `head/bias` (L,).
- `classifier.json`: `labels` (L names), `label_set`, `dataset`, `fraction`,
  `temperature` and `format`.
- `config.json`: the configuration of the run that it started from.

The head reads the shared embedding, followed by the specific one if the model
has it. Probabilities are `sigmoid(logits / temperature)`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
from flax import traverse_util
from ml_collections import ConfigDict

from cgdmer_jax.config import saved

FORMAT = 1


def make(
  params: Mapping[str, Any],
  labels: Sequence[str],
  config: ConfigDict,
  **facts: Any,
) -> dict[str, bytes]:
  """Makes the files.

  Args:
    params: nested dicts of arrays; `head` among them.
    labels: names, in the order of the outputs.
    config: of the run.
    **facts: `label_set`, `dataset`, `fraction` and `temperature`.

  Returns:
    File name -> content.
  """
  arrays = {
    name: np.ascontiguousarray(x)
    for name, x in traverse_util.flatten_dict(dict(params), sep="/").items()
  }
  document = {"format": FORMAT, "labels": list(labels), **facts}
  return {
    "model.safetensors": safetensors.numpy.save(arrays),
    "config.json": saved.to_json(config).encode(),
    "classifier.json": (json.dumps(document, indent=1) + "\n").encode(),
  }
