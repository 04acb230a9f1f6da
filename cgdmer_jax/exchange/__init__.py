"""A trained model as a directory for others: files, card, program, check."""
