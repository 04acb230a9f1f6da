"""Chapman-Shaoxing-Ningbo."""
