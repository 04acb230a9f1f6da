"""Scores with intervals, comparisons, tables and result files."""
