"""The Python process that elefast runs in, and small tools that every other room may use.

Clocks that tests cannot stop, event loops, signals, the terminal behind pytest's capture, progress of long waits, the
cache directory, digests, and text that is safe to display. Nothing here knows PostgreSQL, settings, tests or any other
room of elefast, and nothing here imports a package beyond the standard library when it is itself imported.

An example, which shows a line on the terminal if the block takes longer than two seconds::

    from elefast.runtime import clock, progress

    with progress.show("waiting for the server", workers="first"):
        deadline = clock.now() + 30
"""
