"""Gives a server in a Docker container, shared by all processes that want the same server.

- `provider` finds the engine and the image, shares or starts the container, and gives a `lease`.
- `address` and `engine` find the engine and the host of its published ports.
- `pull` gets the image, with errors of `pull_errors`; `image` reads its configuration.
- `container` specifies the container, `lifecycle` brings it into a running state, with errors of `start_errors`.
- `readiness` waits for the server in it.
- `sharing` has the locks of its users; `cleanup` removes containers that no process uses.
- `inventory` ends containers that were left running.

The package knows neither configuration files nor templates, databases and tests, and nothing of `local`. It imports the
docker SDK when a container is wanted, and not before, because most projects do without it.

    lease = DockerProvider(image="postgres:18", reuse=False).acquire()
    engine = sqlalchemy.create_engine(lease.url)
    ...
    lease.release()
"""

from __future__ import annotations

from elefast.runtime.lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from elefast.providers.docker.engine import probe
    from elefast.providers.docker.inventory import LeftContainer, stop_containers
    from elefast.providers.docker.lease import DockerLease
    from elefast.providers.docker.provider import DockerProvider

__all__ = ["DockerLease", "DockerProvider", "LeftContainer", "probe", "stop_containers"]

_HOME = {
    "DockerLease": "lease",
    "DockerProvider": "provider",
    "LeftContainer": "inventory",
    "probe": "engine",
    "stop_containers": "inventory",
}


__getattr__ = lazy(__name__, _HOME)
