"""Any folder of recordings."""
