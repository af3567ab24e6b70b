"""One package of the workspace."""
