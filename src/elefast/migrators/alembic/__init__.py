"""``migrator = "alembic"``: where an Alembic project has its files, and how its revisions run."""
