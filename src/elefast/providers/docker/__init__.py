"""``provider = "docker"``: a tuned server in a container, shared by all processes that want the same.

- `address` and `engine` find the engine and where its ports are reached; `pull` gets the image, `image` reads it.
- `container` says how the container is made and found, `sharing` who uses it, `state` brings it to run.
- `ready` waits for the server, `failure` says why there is none, `stray` removes what nobody uses.
- `inventory` ends what was left running.
- `provider` puts these together and gives a `lease`.

The docker SDK is imported when a container is wanted, not before.
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
