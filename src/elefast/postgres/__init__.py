"""PostgreSQL: what elefast says to a server, and how it reads the answers.

Most modules are functions over a SQLAlchemy ``Connection``, each of which runs one or a few statements: they create,
rename and drop databases, read catalogs and statistics, take advisory locks, and reset a used database. Other modules
translate URLs, know libpq's variables, or explain the errors of drivers, without any connection. The package
`connections` opens and watches elefast's own connections.

Nothing here knows how a template is built, which databases a run of tests needs, settings, threads or waiting.

An example, over a connection in autocommit mode to the maintenance database::

    from elefast.postgres import databases
    from elefast.postgres.names import Kind, Name, new_owner, new_serial

    name = Name("shop", Kind.CLONE, new_owner(), new_serial())
    databases.clone(connection, name, template="template1")
    assert [database.name for database in databases.own_databases(connection, Kind.CLONE)] == [name]
    databases.drop(connection, str(name))
"""
