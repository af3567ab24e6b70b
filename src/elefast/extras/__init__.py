"""Public modules for optional dependencies: `alembic` (an Alembic project as a migrator), `docker` (a server's URL).

They adapt objects that a user makes in code to `elefast.migrators` and `elefast.providers`. The room must not know
pools or pytest.

    server = DatabaseServer(postgres("psycopg"), schema=AlembicMigrator("alembic.ini"))
"""
