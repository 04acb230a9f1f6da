"""A trained model: arrays and texts in, embeddings out.

A workdir holds everything that is needed to use a checkpoint: `config.json`
(the complete configuration), `tokenizer/` and `checkpoints/`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from absl import logging
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from cgdmer_jax import buckets, paths, sharding
from cgdmer_jax.config import saved
from cgdmer_jax.data import reports
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import cgdmer
from cgdmer_jax.models.forward import Forward, Restored
from cgdmer_jax.train import checkpoint, setup, train_step

_BATCH = 64  # records or texts encoded at once, unless said otherwise


@dataclasses.dataclass(frozen=True)
class TrainedModel:
  """A pretrained (or random) pair of encoders, ready for use.

  Methods take and return arrays on the host, of any number of records. Batches
  are padded to few shapes, so that few programs are compiled; models of the
  same architecture share them. With several processes, all of them make the
  same calls with the same arrays.

  Attributes:
    name: for tables: the recipe, or "random".
    config: complete configuration of the pretraining.
    forward: the model with its preprocessing, on its mesh.
    params: parameters.
    load_tokenizer: gives what turns reports into tokens; called once, when the
      first report is read.
    checkpoint: folder that the parameters were read from; empty for random
      ones.
    step: number of updates of the parameters; None for random ones.
  """

  name: str
  config: ConfigDict
  forward: Forward
  params: Any
  load_tokenizer: Callable[[], Any]
  checkpoint: str = ""
  step: int | None = None

  @property
  def model(self) -> cgdmer.CGDMER:
    """The Flax model."""
    return self.forward.model

  @functools.cached_property
  def tokenizer(self) -> Any:
    """Turns reports into tokens."""
    return self.load_tokenizer()

  @property
  def mesh(self) -> jax.sharding.Mesh:
    """The mesh of the devices."""
    return self.forward.mesh

  def encode_ecg(
    self, ecg: np.ndarray, lead_valid: np.ndarray, batch_size: int = _BATCH
  ) -> cgdmer.Embedding:
    """Embeds recordings.

    Args:
      ecg: int16 (N, L, T), microvolts, leads in the order of `leads.LEADS`, at
        `config.preprocess.sampling_rate`; T a multiple of the patch length.
      lead_valid: bool (N, L), False where a lead is missing.
      batch_size: records on the devices at once.

    Returns:
      float32 (N, width); `specific` is None without such an encoder.

    Raises:
      UserError: the patch length does not divide T.
    """
    return self._in_batches(self.embed, (ecg, lead_valid), batch_size)

  def embed(self, ecg: jax.Array, lead_valid: jax.Array) -> cgdmer.Embedding:
    """Embeds a batch that is on the devices; every device has the result."""
    return self._programs.encode_ecg(self.params, ecg, lead_valid)

  def embed_tokens(self, ecg: jax.Array, lead_valid: jax.Array) -> jax.Array:
    """Tokens of a batch on the devices, see `Forward.ecg_tokens`."""
    return self._programs.ecg_tokens(self.params, ecg, lead_valid)

  def encode_report(
    self, texts: Sequence[str], batch_size: int = 256
  ) -> cgdmer.Embedding:
    """Embeds reports or sentences.

    Args:
      texts: n texts; those that are too long are cut, with a warning.
      batch_size: texts on the devices at once.

    Returns:
      float32 (n, width).

    Raises:
      UserError: the recipe has no report encoder.
    """
    if not self.model.use_report:
      raise UserError(f"recipe {self.config.recipe!r} has no report encoder")
    longest = self.config.report.max_length
    tokens, cut = reports.tokenize(self.tokenizer, texts, longest)
    if cut:
      logging.warning(
        "%.1f %% of %d texts are longer than report.max_length=%d tokens and "
        "are cut",
        100 * cut,
        len(texts),
        longest,
      )

    def encode(tokens):
      return self._programs.encode_report(self.params, tokens)

    return _in_chunks(encode, (tokens,), min(batch_size, len(tokens)))

  def reconstruct(
    self,
    ecg: np.ndarray,
    lead_valid: np.ndarray,
    hidden: np.ndarray,
    batch_size: int = _BATCH,
  ) -> Restored:
    """Hides patches of recordings and restores them.

    Args:
      ecg: see `encode_ecg`.
      lead_valid: see `encode_ecg`.
      hidden: bool (N, L, T / patch length), the patches to hide.
      batch_size: records on the devices at once.

    Returns:
      float32 (N, L, T) each, in mV; or in standard deviations, if the model
      reads these, but for `known_mv`.

    Raises:
      UserError: the recipe has no decoder.
    """
    if not self.model.reconstruct:
      raise UserError(
        f"recipe {self.config.recipe!r} has no decoder that could restore"
        " hidden patches"
      )
    visible = ~hidden & lead_valid[..., None]
    num_visible = int(visible.sum(axis=(1, 2)).max(initial=1))

    def restore(*arrays):
      return self._programs.reconstruct(self.params, *arrays, num_visible)

    restored = self._in_batches(restore, (ecg, lead_valid, hidden), batch_size)
    fixed = self.config.preprocess.normalise == "fixed"
    unit = self.config.preprocess.scale if fixed else 1.0
    in_mv = jax.tree.map(lambda x: x * unit, restored)
    return in_mv.replace(known_mv=restored.known_mv)

  @property
  def _programs(self) -> _Programs:
    return _programs(self.forward)

  def _in_batches(self, encode, arrays, batch_size) -> Any:
    """Runs `encode(*arrays)` in batches that are cut over the devices."""
    devices = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
    count = len(arrays[0])
    if count < batch_size:  # few shapes: powers of two
      batch_size = 1 << max(count - 1, 0).bit_length()
    batch_size = -(-batch_size // devices) * devices
    by_record = sharding.batch_sharding(self.mesh)

    def on_devices(*arrays):
      return encode(*(jax.device_put(x, by_record) for x in arrays))

    return _in_chunks(on_devices, arrays, batch_size)


def _in_chunks(
  encode: Callable[..., Any], arrays: Sequence[np.ndarray], batch_size: int
) -> Any:
  """Runs `encode(*arrays)` in batches of one size; repeats the last row.

  Returns:
    The tree that `encode` returns, as float32, one row for each row of input.

  Raises:
    ValueError: there are no rows.
  """
  count = len(arrays[0])
  if not count:
    raise ValueError("nothing to encode: the arrays have no rows")
  parts = []
  for start in range(0, count, batch_size):
    rows = np.minimum(np.arange(start, start + batch_size), count - 1)
    parts.append(jax.device_get(encode(*(x[rows] for x in arrays))))
  joined = jax.tree.map(lambda *x: np.concatenate(x).astype(np.float32), *parts)
  return jax.tree.map(lambda x: x[:count], joined)


@dataclasses.dataclass(frozen=True)
class _Programs:
  """Compiled functions of parameters and arrays; every device has the result.

  Each shape of the arrays is compiled once.
  """

  encode_ecg: Callable[..., cgdmer.Embedding]
  ecg_tokens: Callable[..., jax.Array]
  encode_report: Callable[..., cgdmer.Embedding]
  reconstruct: Callable[..., Restored]


_COMPILED: dict[str, _Programs] = {}


def _programs(forward: Forward) -> _Programs:
  """Returns the programs of an architecture; its checkpoints share them."""
  model = forward.model
  key = json.dumps(
    [
      model.config.to_dict(),
      forward.preprocess.to_dict(),
      dataclasses.asdict(model.compute),
      dataclasses.asdict(model.vocabulary),
      [model.use_report, model.use_specific, model.num_frozen],
      [model.reconstruct, model.use_mlm],
      repr(forward.mesh),
    ],
    sort_keys=True,
    default=str,
  )
  if key not in _COMPILED:
    replicated = NamedSharding(forward.mesh, PartitionSpec())
    _COMPILED[key] = _Programs(
      jax.jit(forward.encode_ecg, out_shardings=replicated),
      jax.jit(forward.ecg_tokens, out_shardings=replicated),
      jax.jit(forward.encode_report, out_shardings=replicated),
      jax.jit(forward.reconstruct, static_argnums=4, out_shardings=replicated),
    )
  return _COMPILED[key]


def find_workdir(path: str | pathlib.Path) -> pathlib.Path:
  """Finds the workdir that `path` is or lies in.

  Raises:
    UserError: there is no workdir.
  """
  address = paths.address(path)
  path = paths.anywhere(address, "run") if address else pathlib.Path(path)
  buckets.fetch_run(path)
  workdir = path
  while not (workdir / saved.FILE_NAME).exists():
    if workdir == workdir.parent:
      raise UserError(
        f"no run in {path}: expected config.json and checkpoints/ there, as "
        "`--config=configs/pretrain.py --workdir=...` writes them"
      )
    workdir = workdir.parent
  return workdir


def read_config(path: str | pathlib.Path) -> ConfigDict:
  """Reads the configuration of a run; for `path` see `load`."""
  return saved.read(find_workdir(path))


def load(
  path: str | pathlib.Path,
  mesh: jax.sharding.Mesh,
  random: ConfigDict | None = None,
) -> TrainedModel:
  """Loads a pretrained model; the mesh of its training may have been another.

  Args:
    path: workdir of a run, or one checkpoint in it
      (`<workdir>/checkpoints/<step>`).
    mesh: devices for the parameters.
    random: None, or a configuration like that of the run: random parameters
      then replace the trained ones, as the baseline of training.

  Raises:
    UserError: there is no run, or its checkpoint is of another architecture.
  """
  workdir = find_workdir(path)
  config = random or saved.read(workdir)
  tokenizer = reports.load_tokenizer(workdir / "tokenizer")
  model = setup.build_model(config, reports.vocabulary(tokenizer))
  forward = Forward(model, config.preprocess, mesh)
  if random:
    state = train_step.create_state(model, optax.identity(), mesh, config.seed)
    return TrainedModel(
      "random", config, forward, state.params, lambda: tokenizer
    )
  directory = checkpoint.find_checkpoint(path)
  abstract = sharding.abstract(
    lambda: train_step.init_params(model, config.seed), mesh
  )
  return TrainedModel(
    config.recipe,
    config,
    forward,
    checkpoint.load_params(directory, abstract),
    lambda: tokenizer,
    str(directory),
    int(directory.name),
  )


def check_sampling_rate(name: str, rate: int, config: ConfigDict) -> None:
  """Checks that a model can read the records of a data set.

  Args:
    name: the data set, for the message.
    rate: its sampling rate in Hz.
    config: `config.preprocess` of the model.

  Raises:
    UserError: the rates differ.
  """
  if rate != config.sampling_rate:
    raise UserError(
      f"{name} is sampled at {rate} Hz, the model reads "
      f"{config.sampling_rate} Hz; build the {config.sampling_rate} Hz "
      "configuration of the data set"
    )
