"""Training: objective, optimizer, compiled step, what it saves and logs."""
