"""Notes, as plain tables."""
