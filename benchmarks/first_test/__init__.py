"""From a project with models and Alembic to its first migrated test: what each tool asks of its user."""
