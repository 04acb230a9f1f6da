"""Configurations: one file per task, `get_config(arg)` in each."""
