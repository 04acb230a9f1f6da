"""Recordings of any source: read from files, checked, made model input."""
