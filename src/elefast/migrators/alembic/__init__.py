"""``migrator = "alembic"``: where an Alembic project has its files, and how its revisions run.

`step` is the step of a plan. `layout` reads the configuration without importing Alembic, which every test process
does. `upgrade` imports Alembic and runs env.py, only to build a template.

The room must not know pools, pytest, or where the values of a step were configured.

    Alembic("alembic.ini", revision="heads").inputs(root)   # the files that a template depends on
"""
