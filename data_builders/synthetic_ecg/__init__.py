"""Simulated 12-lead ECGs with reports written from what was simulated."""
