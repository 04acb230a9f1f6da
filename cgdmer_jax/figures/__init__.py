"""Figures of runs, results and recordings."""
