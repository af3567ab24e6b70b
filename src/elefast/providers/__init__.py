"""Where a server comes from: an existing one (`url`), a local one (`local`), a container (`docker`).

A provider hands out a `Lease`: a hold on a running server and what to know about it.
Providers take plain arguments; they know nothing of the configuration, of templates or of tests.
Importing this package imports nothing else, so that the supervisor of a local server starts quickly.
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
