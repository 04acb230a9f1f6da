"""Time of a training step, ours and a plain PyTorch auto-encoder's.

    python -m tests.benchmarks.step jax demo  # of configs/pretrain.py
    python -m tests.benchmarks.step jax twin  # our `mae` recipe, same geometry
    python -m tests.benchmarks.step torch twin  # pip install torch

The twin: 12 x 1,000 samples, patches of 50, 75 % of 240 tokens masked, encoder
of 4 blocks of width 128, decoder of 2 blocks of width 64, MLPs 4 times as wide,
batch 32, AdamW with clipping. PyTorch's decoder attends over all tokens at
once, as masked auto-encoders do; ours is axial. The demonstration has the batch
of its configuration. Data are resident noise.
"""

import statistics
import sys
import time

import numpy as np

BATCH, STEPS, WARM_UP = 32, 20, 4
REPORT_LENGTH = 112  # tokens; of the longest report of synthetic_ecg/demo


def report(name, step, batch_size):
  """Times `step()`, which must wait for its result."""
  times = []
  for _ in range(STEPS + WARM_UP):
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
  median = statistics.median(times[WARM_UP:])
  rate = batch_size / median
  print(f"{name}: {1e3 * median:.0f} ms a step, {rate:.0f} examples/s")


def run_jax(geometry):
  import jax

  from cgdmer_jax import sharding
  from cgdmer_jax.config import fields
  from cgdmer_jax.data.batch import Batch
  from cgdmer_jax.data.reports import Vocabulary
  from cgdmer_jax.train import setup
  from configs import pretrain

  c = pretrain.get_config("recipe=mae" if geometry == "twin" else None).unlock()
  if geometry == "twin":
    c.train.batch_size = BATCH
    c.model.patch_length = 50
    # Three blocks of the backbone and one of the shared encoder make four.
    c.model.ecg.update(fields.transformer(128, 3, 4, 512))
    c.model.ecg.stem = ()
    c.optim.muon_lr = 0.0
    c.model.disentangle.update(fields.transformer(128, 1, 4, 512))
    c.model.ecg_decoder.update(fields.transformer(64, 2, 4, 256))
  c.train.steps = 1000
  training = setup.assemble(c, Vocabulary(1000, 0, 1, 4, (0, 1, 2, 3, 4)))
  state, step_fn = training.fresh_state(), training.step
  rng = np.random.default_rng(0)
  size = c.train.batch_size
  tokens = rng.integers(5, 1000, (size, REPORT_LENGTH)).astype(np.int32)
  number = np.arange(REPORT_LENGTH, dtype=np.int32) // 6
  batch = Batch(
    ecg=rng.integers(-500, 500, (size, 12, 1000)).astype(np.int16),
    lead_valid=np.ones((size, 12), bool),
    tokens=tokens,
    statement=np.broadcast_to(number, tokens.shape),
    report=np.arange(size, dtype=np.int32),
    has_text=np.ones(size, bool),
  )
  batch = sharding.put_batch(batch, training.mesh)

  def step():
    nonlocal state
    state, metrics = step_fn(state, batch)
    jax.block_until_ready(metrics)

  report(f"jax {geometry}", step, size)


def run_torch():
  import torch
  from torch import nn

  class Block(nn.Module):
    def __init__(self, width):
      super().__init__()
      self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
      self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
      self.mlp = nn.Sequential(
        nn.Linear(width, 4 * width),
        nn.GELU(approximate="tanh"),
        nn.Linear(4 * width, width),
      )

    def forward(self, x):
      b, n, d = x.shape
      qkv = self.qkv(self.norm1(x)).view(b, n, 3, 4, d // 4)
      q, k, v = qkv.permute(2, 0, 3, 1, 4)
      y = nn.functional.scaled_dot_product_attention(q, k, v)
      x = x + self.out(y.transpose(1, 2).reshape(b, n, d))
      return x + self.mlp(self.norm2(x))

  class AutoEncoder(nn.Module):
    def __init__(self):
      super().__init__()
      self.patch = nn.Linear(50, 128)
      self.position = nn.Parameter(0.02 * torch.randn(1, 240, 128))
      self.encoder = nn.Sequential(*(Block(128) for _ in range(4)))
      self.encoder_norm = nn.LayerNorm(128)
      self.fuse = nn.Linear(128, 64)
      self.hole = nn.Parameter(0.02 * torch.randn(1, 1, 64))
      self.decoder_position = nn.Parameter(0.02 * torch.randn(1, 240, 64))
      self.decoder = nn.Sequential(*(Block(64) for _ in range(2)))
      self.decoder_norm = nn.LayerNorm(64)
      self.samples = nn.Linear(64, 50)

    def forward(self, ecg):
      patches = ecg.view(-1, 240, 50)
      order = torch.rand(len(patches), 240).argsort(1)
      inverse, visible = order.argsort(1), order[:, :60, None]
      x = patches.gather(1, visible.expand(-1, -1, 50))
      where = self.position.expand(len(x), -1, -1)
      x = self.patch(x) + where.gather(1, visible.expand(-1, -1, 128))
      x = self.fuse(self.encoder_norm(self.encoder(x)))
      x = torch.cat([x, self.hole.expand(len(x), 180, -1)], 1)
      x = x.gather(1, inverse[..., None].expand(-1, -1, 64))
      x = self.decoder_norm(self.decoder(x + self.decoder_position))
      deviation = (patches.var(-1, keepdim=True) + 1e-3).sqrt()
      target = (patches - patches.mean(-1, keepdim=True)) / deviation
      error = ((self.samples(x) - target) ** 2).mean(-1)
      hidden = torch.ones_like(error).scatter(1, order[:, :60], 0.0)
      return (error * hidden).sum() / hidden.sum()

  model = AutoEncoder()
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
  ecg = torch.randn(BATCH, 12, 1000)

  def step():
    optimizer.zero_grad()
    model(ecg).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

  report("torch twin", step, BATCH)


if __name__ == "__main__":
  if sys.argv[1:] == ["torch", "twin"]:
    run_torch()
  elif sys.argv[1:] in (["jax", "demo"], ["jax", "twin"]):
    run_jax(sys.argv[2])
  else:
    sys.exit(__doc__)
