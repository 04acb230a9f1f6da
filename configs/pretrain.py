"""Pretraining of CG-DMER and of the recipes it is compared with.

    python -m cgdmer_jax.main --config=configs/pretrain.py

pretrains on the embedded data set on two CPU cores and evaluates, in eight to
ten minutes: zero-shot and linear probe with 1, 10 and 100 % of the labels,
beside a random encoder. Options behind the colon, separated by commas:

    recipe=NAME   cg_dmer (default: every loss term), masked_clip (no
                  disentanglement), clip (alignment alone, nothing masked), mae
                  (reconstruction alone), random (no training)
    quality       the same model, six times as long on five times as many
                  simulated patients (`synthetic_ecg/quality`)
    tiny, small, base, large
                  for accelerators: MIMIC-IV-ECG (to be built before), an ECG
                  encoder of the size of the ViT of that name, and MedCPT, a
                  BERT trained on biomedical search, as report encoder, all of
                  it trained; evaluated on PTB-XL. We never ran these at full
                  length.
    chip=SLICE    with one of these: the batch that fills the chips of a slice,
                  such as v5e-16, v5p-64, v6e-8 or h100-8; as many records are
                  seen as without

The report encoder of any configuration may be a BERT checkpoint of Hugging
Face, a directory or an id of the hub. This one reads whole reports with a
frozen MedCPT, which runs once for each distinct report:

    python -m cgdmer_jax.main --config=configs/pretrain.py:base,recipe=clip \
        --config.report.train=frozen --config.data.statements='(0,)'

Single fields: `--config.optim.lr=3e-4`. The paper (arXiv 2602.21154) is public
only as abstract and introduction, so every number below is our choice.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import fields, presets


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the configuration; for `arg` see the module docstring."""
  options = presets.parse_arg(arg, preset="demo", recipe="cg_dmer", chip="")
  presets.choose("preset", options.preset, ("demo", "quality", *presets.SIZES))
  c = fields.pretraining()
  c.recipe = presets.choose("recipe", options.recipe, presets.RECIPES)
  _demonstrate(c)
  if options.preset == "quality":
    _prolong(c)
  elif options.preset != "demo":
    _enlarge(c, options.preset)
  if options.chip:
    presets.fill(c, options.preset, options.chip)
  _apply_recipe(c)
  return c.lock()


def _demonstrate(c: ConfigDict) -> None:
  """Sets the preset for two CPU cores, on the embedded data set."""
  c.data.update(
    dataset="synthetic_ecg/demo", vocab_size=2000, statements=(1, 2, 3, 0)
  )
  c.preprocess.update(sampling_rate=100, bandpass=(0.5, 0.0), scale=0.25)
  # Half of the records are seen whole, so that alignment is not starved.
  c.mask.update(
    kind="random",
    lead_ratio=0.25,
    time_ratio=0.33,
    whole_ratio=0.5,
    token_ratio=0.15,
  )
  c.model.patch_length = 100  # 1 s: ten tokens a lead
  c.model.ecg.update(fields.transformer(128, 2, 4, 256))
  c.model.ecg.stem = ((32, 10, 5), (64, 4, 2), (64, 3, 1))  # 50, then 100 ms
  c.model.ecg.stem_pool = True
  c.model.ecg_target = "residual"
  c.model.report.update(fields.transformer(128, 1, 4, 256), num_positions=24)
  c.model.disentangle.update(fields.transformer(128, 1, 4, 256))
  c.model.ecg_decoder.update(fields.transformer(64, 2, 4, 128))
  c.report.update(max_length=24, device_cache_mib=1024)
  # InfoNCE, since the sigmoid loss starts with a bias of -10, which Adam moves
  # by at most the learning rate a step: too slow for a run of 600 steps.
  c.loss.alignment = "infonce"
  c.optim.update(
    lr=5e-3,
    muon_lr=8e-3,
    b2=0.98,
    weight_decay=0.05,
    warmup_ratio=0.1,
    final_ratio=0.01,
  )
  c.train.update(
    batch_size=64,
    steps=600,
    log_every=30,
    validate_every=300,
    checkpoint_every=300,
    keep_checkpoints=2,
  )
  c.evaluation = fields.evaluation(
    c.data.dataset, ("zero_shot", "linear_probe")
  )


def _prolong(c: ConfigDict) -> None:
  """Sets the preset for less than an hour on two CPU cores."""
  c.data.dataset = c.evaluation.datasets = "synthetic_ecg/quality"
  c.augment.update(
    gain=0.15, lead_gain=0.07, rotation=8.0, noise=0.012, lowpass=(20.0, 60.0)
  )
  c.train.update(
    steps=3600, validate_every=600, checkpoint_every=600, keep_checkpoints=6
  )


def _enlarge(c: ConfigDict, size: str) -> None:
  """Sets a preset for accelerators; `size` is one of `presets.SIZES`."""
  c.compute.update(dtype="bfloat16", scan=True)
  c.data.dataset = "mimic_iv_ecg/100hz"
  c.data.num_workers = 8
  # Views and targets of the demonstration were not measured at these sizes.
  c.mask.update(
    kind="spatial_temporal", lead_ratio=0.5, time_ratio=0.5, whole_ratio=0.0
  )
  c.model.ecg_target = "patch"
  c.model.ecg.stem_pool = False
  c.model.patch_length = 50  # 0.5 s: 240 tokens
  presets.set_size(c.model, size)
  c.model.ecg.stem = ((64, 10, 5), (128, 4, 2), (128, 3, 1))
  c.report.update(
    checkpoint="ncbi/MedCPT-Query-Encoder",
    max_length=128,
    lr=2e-5,
    layer_decay=0.9,
  )
  c.loss.alignment = "sigmoid"
  c.optim.update(lr=3e-4, muon_lr=0.0)
  c.train.update(
    batch_size=1024,
    steps=40_000,
    log_every=50,
    validate_every=1000,
    checkpoint_every=1000,
  )
  c.evaluation = fields.evaluation("ptb_xl/100hz", c.evaluation.tasks)
  c.evaluation.batch_size = 256


def _apply_recipe(c: ConfigDict) -> None:
  """Switches on the loss terms of the recipe, and what they need."""
  c.loss.update(presets.RECIPES[c.recipe])
  if not c.loss.ecg:
    c.mask.kind = "none"  # nothing would restore what is hidden
  if not c.loss.ecg or not c.loss.align:
    c.mask.whole_ratio = 0.0  # nothing would be learned from whole records
  if c.recipe == "random":
    c.train.steps = 0
  c.model.specific = bool(c.loss.disentangle)


def sweep_recipes():
  """Every recipe with three seeds: what each part of CG-DMER gains."""
  for seed in range(3):
    for recipe in presets.RECIPES:
      yield f"{recipe}-{seed}", f"recipe={recipe}", {"seed": seed}


def sweep_masking():
  """How patches are hidden, and how many: a half to seven eighths."""
  for kind in ("random", "spatial_temporal"):
    for lead, time in ((0.25, 0.33), (0.5, 0.5), (0.5, 0.75)):
      ratios = {"mask.lead_ratio": lead, "mask.time_ratio": time}
      yield f"{kind}-{lead}-{time}", "", {"mask.kind": kind, **ratios}
  for ratio in (0.5, 0.75):
    yield (
      f"spatial-{ratio}",
      "",
      {
        "mask.kind": "spatial",
        "mask.lead_ratio": ratio,
      },
    )
    yield (
      f"temporal-{ratio}",
      "",
      {
        "mask.kind": "temporal",
        "mask.time_ratio": ratio,
      },
    )


def sweep_seeds():
  """Three seeds: how much of a difference is chance."""
  for seed in range(3):
    yield f"seed-{seed}", "", {"seed": seed}
