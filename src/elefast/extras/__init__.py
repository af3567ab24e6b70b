"""Optional parts of the public surface, each for an optional dependency: `alembic`, `docker`."""
