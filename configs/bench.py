"""Benchmark of the training step and its input; a minute or two on a CPU.

    python -m cgdmer_jax.main --config=configs/bench.py:base

Options after the colon:

    demo           the demonstration of `configs/pretrain.py`, on its data set
                   (default)
    tiny, small, base, large
                   ECG encoders of these sizes with a small report encoder, on
                   `synthetic_ecg/demo`, or another: --config.data.dataset=...
    chip=SLICE     with one of these: what `configs/plan.py` plans for that
                   slice, such as h100-1: the pretraining of this size, with a
                   report encoder of the size of BERT-base and the batch that
                   fills the chips; noise
    st_mem_small, st_mem_base
                   masked auto-encoding at the geometry of ST-MEM: 12 leads of
                   2,250 samples at 250 Hz, patches of 75, three of four hidden,
                   ViT-small or ViT-base, a decoder with as many weights, batch
                   8, AdamW; noise
    merl           alignment at the geometry of MERL: 12 leads of 5,000 samples
                   at 500 Hz, ViT-tiny on patches of one second, a frozen report
                   encoder of the size of BERT-base that reads 256 tokens and
                   whose outputs are cached, batch 8; noise

Mesh, `compute` and batch size of every preset can be set:

    --config.compute.dtype=bfloat16 --config.train.batch_size=512

Prints a table and writes `bench-<preset>.json` in the workdir: examples/s of
the step on a resident batch, of the input pipeline alone and of both, the share
of time that the loop waits for data, floating-point operations, MFU where the
device is known and computes in bfloat16, and memory.
"""

from __future__ import annotations

import pathlib

from ml_collections import ConfigDict

from cgdmer_jax.config import fields, presets

_NOISE = ("st_mem_small", "st_mem_base", "merl")


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the configuration; for `arg` see the module docstring."""
  options = presets.parse_arg(arg, preset="demo", recipe="", chip="")
  preset = presets.choose(
    "preset", options.preset, ("demo", *presets.SIZES, *_NOISE)
  )
  recipes = {"st_mem_small": "mae", "st_mem_base": "mae", "merl": "clip"}
  recipe = options.recipe or recipes.get(preset, "cg_dmer")
  pretrain = presets.load(pathlib.Path(__file__).with_name("pretrain.py"))
  filled = f"{preset},chip={options.chip}," if options.chip else ""
  c = pretrain.get_config(f"{filled}recipe={recipe}").unlock()
  c.task = "bench"
  # Steps of one measurement, and number of measurements: the median counts.
  c.bench = dict(name=preset, steps=20, repeats=3, num_samples=0)
  if options.chip:
    presets.forget_checkpoint(c)
    c.data.dataset = ""
    c.bench.num_samples = 1000
  elif preset in presets.SIZES:
    presets.set_size(c.model, preset)
    c.model.patch_length = 50
    c.optim.muon_lr = 0.0
    c.compute.scan = True
  elif preset == "merl":
    _merl(c)
  elif preset in _NOISE:
    _st_mem(c, preset.removeprefix("st_mem_"))
  return c.lock()


def _st_mem(c: ConfigDict, size: str) -> None:
  """Sets the geometry of ST-MEM; `size` is one of `presets.SIZES`."""
  c.data.dataset = ""
  c.bench.update(num_samples=2250, steps=3)
  c.preprocess.sampling_rate = 250
  c.model.patch_length = 75
  c.model.ecg.stem = ()
  presets.set_size(c.model, size)
  # The shared encoder is the last of the twelve blocks.
  width, depth, num_heads, mlp_dim = presets.SIZES[size][0]
  c.model.ecg.update(fields.transformer(width, depth - 1, num_heads, mlp_dim))
  c.model.disentangle.update(fields.transformer(width, 1, num_heads, mlp_dim))
  # Axial blocks have two attentions: three weigh as much as four plain ones.
  c.model.ecg_decoder.update(fields.transformer(256, 3, 4, 1024))
  c.train.batch_size = 8
  c.optim.update(muon_lr=0.0, lr=1e-3)


def _merl(c: ConfigDict) -> None:
  """Sets the geometry of MERL."""
  c.data.update(dataset="", statements=(0,))
  c.bench.update(num_samples=5000, steps=5)
  c.preprocess.sampling_rate = 500
  c.model.patch_length = 500
  c.model.ecg.stem = ()
  presets.set_size(c.model, "tiny")
  c.model.report.update(
    fields.transformer(768, 12, 12, 3072), vocab_size=30522, num_positions=512
  )
  c.report.update(train="frozen", max_length=256)
  c.train.batch_size = 8
  c.optim.update(muon_lr=0.0, lr=1e-3)
