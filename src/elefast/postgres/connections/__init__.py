"""elefast's own connections to a server: how to make them, keep them, and notice that one is dead.

The room knows servers, drivers and SQLAlchemy. It must not know templates, pools or tests: what is done over a
connection is a function that the caller passes in.

    session = MaintenanceSession(url, connectors_to(url))
    session.ensure_ready(timeout=30)
    version = session.call(sql.scalar, "show server_version")  # connects again if the connection was lost
    session.close()

`engines` makes SQLAlchemy engines, `connectors` chooses how to connect, `control_connection` is one connection,
`maintenance_session` reconnects and does the work on databases, and `watchdog` ends calls that wait in vain.
"""
