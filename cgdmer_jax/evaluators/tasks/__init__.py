"""The tasks of the benchmark, a file for each."""
