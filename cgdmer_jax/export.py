"""Writes the report encoder of a run as a Hugging Face checkpoint.

    python -m cgdmer_jax.export --checkpoint=runs/pretrain --output=my_bert

`transformers.AutoModel.from_pretrained("my_bert")` reads it, and so does
`--config.report.checkpoint=my_bert` of another run. Only the BERT encoder is
written; what follows it (projection, shared and specific encoder) is ours.
"""

from __future__ import annotations

from absl import app, flags, logging

from cgdmer_jax import command, paths
from cgdmer_jax.errors import UserError

_CHECKPOINT = flags.DEFINE_string(
  "checkpoint",
  None,
  "Workdir of a run, or one checkpoint in it: WORKDIR/checkpoints/STEP.",
  required=True,
)
_OUTPUT = flags.DEFINE_string(
  "output", None, "Folder to make; it must not exist.", required=True
)


def export(checkpoint: str, output: str) -> None:
  """Writes the report encoder in `checkpoint` to the new folder `output`.

  Raises:
    UserError: there is no such run, it has no report encoder, or `output`
      exists.
  """
  # Imported here: --help and a wrong flag need not wait for JAX.
  from cgdmer_jax import sharding, trained_model
  from cgdmer_jax.models import hf_bert

  checkpoint = paths.anywhere(checkpoint, "--checkpoint")
  output = paths.local(output, "--output")
  mesh = sharding.make_mesh((-1, 1, 1))
  loaded = trained_model.load(checkpoint, mesh)
  if not loaded.model.use_report:
    raise UserError(
      f"{checkpoint}: recipe {loaded.name!r} has no report encoder; choose a "
      "run of another recipe"
    )
  hf_bert.save(
    output,
    loaded.params["report_encoder"],
    hf_bert.BertConfig(**loaded.model.report_sizes),
    loaded.tokenizer,
  )


def main(argv: list[str]) -> None:
  """Exports the run that the flags name."""
  if len(argv) > 1:
    command.stop(f"unexpected argument {argv[1]!r}; see --help")
  logging.set_verbosity(logging.WARNING)
  try:
    export(_CHECKPOINT.value, _OUTPUT.value)
  except UserError as error:
    command.stop(error)
  print(f"report encoder: {_OUTPUT.value}")


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
