"""`python -m cgdmer_jax COMMAND`, the same as `cgdmer COMMAND`."""

from cgdmer_jax import cli

if __name__ == "__main__":
  cli.main()
