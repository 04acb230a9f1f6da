"""Benchmarks: each a command, none a test."""
