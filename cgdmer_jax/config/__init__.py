"""Configurations: their fields, what presets share, and `config.json`."""
