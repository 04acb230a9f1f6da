"""From TFDS records on disk to batches, and from int16 to model input."""
