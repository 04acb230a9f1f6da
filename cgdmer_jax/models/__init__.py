"""Flax modules: backbones, disentangling encoders, decoders."""
