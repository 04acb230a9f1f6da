"""All commands behind one name: `cgdmer COMMAND [flags]`."""

from __future__ import annotations

import runpy
import sys

from cgdmer_jax import command

# Command -> module, configuration that it takes without --config, what it does.
COMMANDS = {
  "pretrain": ("cgdmer_jax.main", "pretrain", "pretrain, or resume a run"),
  "evaluate": ("cgdmer_jax.main", "benchmark", "compare encoders"),
  "bench": ("cgdmer_jax.main", "bench", "measure how fast training is"),
  "plan": ("cgdmer_jax.main", "plan", "what a training would need on a slice"),
  "build": ("data_builders.build", "", "build a data set"),
  "predict": ("cgdmer_jax.predict", "", "findings of recordings in files"),
  "calibrate": ("cgdmer_jax.calibrate", "", "probabilities for your data"),
  "export": ("cgdmer_jax.export", "", "a directory for others from a run"),
  "selftest": ("cgdmer_jax.selftest", "", "check such a directory"),
  "list": ("cgdmer_jax.listing", "", "list presets, data sets, tasks, runs"),
}


def expand(name: str, rest: list[str]) -> tuple[str, list[str]]:
  """Module of a command, and its arguments with the default of --config."""
  module, config, _ = COMMANDS[name]
  is_given = any(word.partition("=")[0] == "--config" for word in rest)
  return module, rest if is_given or not config else [
    f"--config={config}",
    *rest,
  ]


def usage() -> str:
  """What can be done."""
  lines = [f"  {name:10} {text}" for name, (*_, text) in COMMANDS.items()]
  return "\n".join(
    [
      "usage: cgdmer COMMAND [flags]; cgdmer COMMAND --help tells more",
      *("", *lines),
    ]
  )


def main() -> None:
  """Runs the command that is named first."""
  command.print_anything()
  name, *rest = sys.argv[1:] or ["--help"]
  if name in ("--help", "-h", "help"):
    print(usage())
    return
  if name not in COMMANDS:
    command.stop(f"unknown command {name!r}; expected {', '.join(COMMANDS)}")
  module, rest = expand(name, rest)
  sys.argv = [f"cgdmer {name}", *rest]
  runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  main()
