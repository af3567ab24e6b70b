"""What PostgreSQL must do: names, SQL, templates, fingerprints, leases.

Functions over a SQLAlchemy ``Connection``: no configuration, no Docker, no threads, no sleeping.
"""
