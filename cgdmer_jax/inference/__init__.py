"""A trained model for those who use it: recordings in, findings out."""
