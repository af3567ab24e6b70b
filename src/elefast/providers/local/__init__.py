"""Gives a PostgreSQL server from binaries on this machine, shared by all processes that want the same server.

- `provider` is called by the users of a server: it finds or starts a supervisor, and gives a `lease`.
- `supervisor_client` starts and stops supervisors; `state_file` is how a supervisor and its users communicate.
- `supervisor` is the process that starts a server, and stops it after its last user.
- `provision` prepares the start: `account` chooses the operating system's user, `copy_binaries` gives that user the
  binaries, and `cluster` makes the data directory.
- `server` is one run of PostgreSQL; `processes` finds the operating system's processes of a server.
- `binaries` finds installations of PostgreSQL.
- `cleanup` removes what killed supervisors left, `orphan_files` what killed servers left.
- `inventory` lists servers, and ends those that were left running.

The package knows neither configuration files nor templates, databases and tests, and nothing of `docker`. The modules
that the supervisor imports must stay light, because every cold start waits for them.

    lease = LocalProvider(reuse=False).acquire()
    engine = sqlalchemy.create_engine(lease.url)
    ...
    lease.release()
"""

from __future__ import annotations

from elefast.runtime.lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from elefast.providers.local.inventory import RunningServer, running_servers, stop_held
    from elefast.providers.local.lease import LocalLease
    from elefast.providers.local.provider import LocalProvider

__all__ = ["LocalLease", "LocalProvider", "RunningServer", "running_servers", "stop_held"]

_HOME = {
    "LocalLease": "lease",
    "LocalProvider": "provider",
    "RunningServer": "inventory",
    "running_servers": "inventory",
    "stop_held": "inventory",
}


__getattr__ = lazy(__name__, _HOME)
