"""What is evaluated: encoders, found by name, and their features."""
