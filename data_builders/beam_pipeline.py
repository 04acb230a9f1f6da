"""Writes shards with Apache Beam, on as many machines as the runner has.

Apache Beam is an extra: `pip install 'cgdmer-jax[beam]'`. All workers must see
the original files and the folder of the data set under the same paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from cgdmer_jax.errors import UserError, one_line
from data_builders import shards


def run(
  write: Callable[[shards.Shard], shards.Outcome],
  plan: Sequence[shards.Shard],
  runner: str,
  options: Sequence[str],
) -> Iterator[shards.Outcome]:
  """Writes the shards; yields their outcomes in order.

  Args:
    write: writes a shard.
    plan: the shards.
    runner: name of the runner, for instance `DirectRunner`.
    options: flags of the Beam pipeline, for instance `--direct_num_workers=4`.

  Raises:
    UserError: Apache Beam is not installed, or there is no such runner.
  """
  try:
    import apache_beam as beam
    from apache_beam.options import pipeline_options
  except ImportError:
    raise UserError(
      "--beam_runner needs Apache Beam: pip install 'cgdmer-jax[beam]'"
    ) from None
  parsed = pipeline_options.PipelineOptions(list(options))
  known = parsed.get_all_options(retain_unknown_options=False)
  unknown = parsed.get_all_options(retain_unknown_options=True).keys() - known
  if unknown:
    raise UserError(f"--beam_options: Beam has no {', '.join(sorted(unknown))}")
  try:
    pipeline = beam.Pipeline(runner=runner, options=parsed)
  except (ValueError, ImportError) as e:
    raise UserError(f"--beam_runner={runner}: {one_line(e)}") from e
  _ = (
    pipeline
    | "Shards" >> beam.Create(plan)
    | "Spread" >> beam.Reshuffle()
    | "Write" >> beam.Map(write)
  )
  try:
    pipeline.run().wait_until_finish()
  except Exception as e:  # of any type: Beam wraps those of its workers
    text = f"{type(e).__name__}: {e}"
    told = re.search(r"UserError: (.+?)(?: \[while running|\n|$)", text)
    if told is None:
      raise
    raise UserError(told[1]) from None
  yield from map(shards.read_outcome, plan)
