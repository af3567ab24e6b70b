"""``provider = "local"``: a PostgreSQL server of our own, from binaries on this machine.

- `binaries` finds them, `account` decides who runs them, `relocate` copies them where that one can.
- `place` has the directories and their safety, `cluster` the data directory, `server` one run of it.
- `keeper` is the process that does all of this and stops the server when the last user has gone.
- `provider` is what users of the server run: it finds a keeper or starts one (`start`), and gives a `lease`.
- `sweep` removes what killed keepers have left.
- `inventory` lists servers and ends those that were left running.

The modules that the keeper imports must stay light: every cold start waits for them.
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
