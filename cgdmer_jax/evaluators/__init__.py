"""Downstream tasks and the statistics behind their numbers."""
