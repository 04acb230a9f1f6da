"""TFDS builders that turn ECG/report pairs into sharded records."""
