"""Gives a running PostgreSQL server, and a lease on it.

- `url` uses an existing server, `local` starts one from binaries on this machine, `docker` starts one in a container.
- `auto` uses the URL if the project names one, else the first of Docker and local that works.
- `protocol` has the two protocols that the rest of elefast works with: `Provider` and `Lease`.
- `tuning` translates the keys of ``[tool.elefast.tuning]`` into settings of the server.

Providers take plain arguments. They do not know configuration files, templates, databases or tests. Importing this
package imports no other module of elefast's providers, so that the supervisor of a local server starts quickly.

    lease = UrlProvider("postgresql://postgres@localhost/postgres").acquire()
    engine = sqlalchemy.create_engine(lease.url)
    ...
    lease.release()
"""

from __future__ import annotations

from elefast.runtime.lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from elefast.providers.auto import AutoProvider, Candidate
    from elefast.providers.docker import DockerProvider, stop_containers
    from elefast.providers.local import LocalProvider, RunningServer, running_servers, stop_held
    from elefast.providers.protocol import Lease, Provider
    from elefast.providers.tuning import server_settings
    from elefast.providers.url import UrlProvider

__all__ = [
    "AutoProvider",
    "Candidate",
    "DockerProvider",
    "Lease",
    "LocalProvider",
    "Provider",
    "RunningServer",
    "UrlProvider",
    "running_servers",
    "server_settings",
    "stop_containers",
    "stop_held",
]

_HOME = {
    "AutoProvider": "auto",
    "Candidate": "auto",
    "DockerProvider": "docker",
    "Lease": "protocol",
    "LocalProvider": "local",
    "Provider": "protocol",
    "RunningServer": "local",
    "UrlProvider": "url",
    "running_servers": "local",
    "server_settings": "tuning",
    "stop_containers": "docker",
    "stop_held": "local",
}


__getattr__ = lazy(__name__, _HOME)
