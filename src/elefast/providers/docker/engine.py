"""The connection to a Docker engine or Podman, and the host on which its published ports are reached."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import os
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from elefast.errors import MissingDependencyError, ServerUnavailableError
from elefast.providers.docker.address import NO_PERMISSION, Address, container_id, find, in_container, silence

__all__ = ["DockerEngine", "connect", "engine_name", "over", "probe", "reached_at"]

PROBE_TIMEOUT = 0.7
CONTACT_TIMEOUT = 10.0
ANSWER_TIMEOUT = 60.0
NOT_INSTALLED = 'the docker extra is not installed: pip install "elefast[docker]"'


class DockerEngine:
    """A Docker engine or Podman that answers.

    Args:
        client: A ``docker.DockerClient``.
        address: Where the engine listens.
        name: ``Docker 28.1.0`` or ``Podman 5.4.0``.
        host: Where its published ports are reached.
        why: Where `host` comes from; empty for the obvious one.
        borrowed: Whether the caller closes the client.
    """

    def __init__(
        self,
        client: Any,
        address: Address,
        *,
        name: str,
        host: str = "127.0.0.1",
        why: str = "",
        borrowed: bool = False,
    ) -> None:
        self._borrowed = borrowed
        self.client = client
        self.address = address
        self.name = name
        self.host = host
        self.why = why

    def __str__(self) -> str:
        reached = f", reached at {self.host} ({self.why})" if self.why else ""
        return f"{self.name} at {self.address}{reached}"

    @property
    def bind(self) -> str:
        """The address to publish ports on: the loopback address if that is enough, or else empty for all."""
        if self.host == "localhost":
            return "127.0.0.1"
        try:
            return self.host if ipaddress.ip_address(self.host).is_loopback else ""
        except ValueError:
            return ""

    def locate(self, env: Mapping[str, str], host: str) -> None:
        """Find out where published ports are reached.

        Args:
            env: Variables that may name the host.
            host: The host that the project names, which comes first; empty for none.
        """
        with self.doing("looking where its ports are reached"):
            self.host, self.why = reached_at(self.client, self.address, env, host)

    @contextmanager
    def doing(self, what: str) -> Generator[None]:
        """Turn errors of the connection, and refusals that no caller handles, into errors for the user.

        Args:
            what: What this process does meanwhile, for the message: "starting the container".

        Raises:
            ServerUnavailableError: The engine went away, does not answer, or refuses.
        """
        from docker.errors import APIError, DockerException
        from requests.exceptions import ConnectionError as BrokenError
        from requests.exceptions import RequestException, Timeout

        try:
            yield
        except APIError as error:
            said = str(error.explanation or error).strip()
            raise ServerUnavailableError(
                f"the Docker engine at {self.address} failed while {what}: {said}\n"
                "see that `docker version` and `docker ps` answer, then run the tests again",
                code="docker-lost",
            ) from error
        except Timeout as error:
            raise ServerUnavailableError(self._stalled(what), code="docker-lost") from error
        except BrokenError as error:
            # The SDK reports a timeout in the middle of an answer as a broken connection.
            text = self._stalled(what) if "timed out" in str(error).lower() else self._gone(what, error)
            raise ServerUnavailableError(text, code="docker-lost") from error
        except (RequestException, DockerException, OSError) as error:
            raise ServerUnavailableError(self._gone(what, error), code="docker-lost") from error

    def _stalled(self, what: str) -> str:
        return (
            f"the Docker engine at {self.address} stopped answering: nothing for {self.client.api.timeout:g} s while "
            f"{what}\n`docker ps` should answer; restart the engine if it hangs too"
        )

    def _gone(self, what: str, error: Exception) -> str:
        return f"lost the Docker engine at {self.address} while {what}: {error}\nsee that it runs (`docker version`)"

    def containers(self, labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """Short descriptions (``Id``, ``State``, ``Labels``, ``Names``) of all containers with these labels."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        with self.doing("listing containers"):
            found: list[Mapping[str, Any]] = self.client.api.containers(all=True, filters={"label": wanted})
        # Podman 4 treats several labels as alternatives.
        return [one for one in found if labels.items() <= (one.get("Labels") or {}).items()]

    def close(self) -> None:
        """Close the client, unless the caller does that."""
        if not self._borrowed:
            self.client.close()


def probe(env: Mapping[str, str] | None = None) -> str:
    """Why ``auto`` has to pass Docker over. Takes well under a second.

    Args:
        env: Variables such as ``DOCKER_HOST``; ``None`` for the environment of this process.

    Returns:
        The reason; empty if an engine answers.
    """
    if importlib.util.find_spec("docker") is None:
        return NOT_INSTALLED
    try:
        return silence(find(os.environ if env is None else env), PROBE_TIMEOUT)
    except ServerUnavailableError as error:
        return str(error)


def connect(
    env: Mapping[str, str],
    *,
    host: str = "",
    contact_timeout: float = CONTACT_TIMEOUT,
    answer_timeout: float = ANSWER_TIMEOUT,
) -> DockerEngine:
    """Find the engine and connect to it.

    Args:
        env: Variables such as ``DOCKER_HOST``.
        host: Where published ports are reached; empty to find out.
        contact_timeout: Seconds for the first answer.
        answer_timeout: Seconds for any other answer.

    Raises:
        MissingDependencyError: The docker extra is not installed.
        ServerUnavailableError: There is no engine, or it refuses the connection.
    """
    try:
        import docker
        from docker.errors import DockerException
        from requests.exceptions import RequestException
    except ImportError as error:
        raise MissingDependencyError(NOT_INSTALLED, code="docker-extra-missing") from error
    address = find(env)
    if why := silence(address, contact_timeout):
        raise ServerUnavailableError(
            why, code="docker-permission" if why.startswith(NO_PERMISSION) else "docker-unreachable"
        )
    with contextlib.ExitStack() as opened:
        try:
            client: Any = docker.DockerClient(
                base_url=address.url,
                version="auto",
                timeout=contact_timeout,  # type: ignore[arg-type]  # seconds, as any number
                tls=_tls(address),
            )
            opened.callback(client.close)
            version: Mapping[str, Any] = client.version()
        except (DockerException, RequestException, OSError) as error:
            hint = 'ssh needs one more package: pip install "docker[ssh]"' if "paramiko" in str(error) else ""
            raise ServerUnavailableError(
                f"the Docker engine at {address} cannot be used: {error}\n"
                f"{hint or '`docker version` should work first'}",
                code="docker-unreachable",
            ) from error
        client.api.timeout = answer_timeout
        engine = DockerEngine(client, address, name=engine_name(version))
        engine.locate(env, host)
        opened.pop_all()
    return engine


def over(client: Any, env: Mapping[str, str], *, host: str = "") -> DockerEngine:
    """The engine of a client that the caller made and closes.

    Args:
        client: A ``docker.DockerClient``.
        env: Variables that may name the host of published ports.
        host: The host that the project names, which comes first; empty for none.

    Raises:
        ServerUnavailableError: The engine does not answer.
    """
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    address = Address(_url(client), "the given client")
    try:
        version: Mapping[str, Any] = client.version()
    except (DockerException, RequestException, OSError) as error:
        raise ServerUnavailableError(
            f"the Docker engine at {address} cannot be used: {error}\n"
            "the client that was given has to work: client.version()",
            code="docker-unreachable",
        ) from error
    engine = DockerEngine(client, address, name=engine_name(version), borrowed=True)
    engine.locate(env, host)
    return engine


def _url(client: Any) -> str:
    """The address that a client connects to, which its own URL does not show for sockets and ssh."""
    adapter: Any = getattr(client.api, "_custom_adapter", None)
    if path := getattr(adapter, "socket_path", ""):
        return f"unix://{path}"
    ssh: Mapping[str, Any] = getattr(adapter, "ssh_params", None) or {}
    if host := ssh.get("hostname") or getattr(adapter, "ssh_host", ""):
        return f"ssh://{host}"
    return str(client.api.base_url)


def _tls(address: Address) -> Any:
    if not address.certificates:
        return False
    from docker.tls import TLSConfig

    files = {name: os.path.join(address.certificates, f"{name}.pem") for name in ("ca", "cert", "key")}
    return TLSConfig(
        client_cert=(files["cert"], files["key"]) if os.path.exists(files["cert"]) else None,
        ca_cert=files["ca"] if address.verify else None,
        verify=address.verify,
    )


def engine_name(version: Mapping[str, Any]) -> str:
    components: Sequence[Mapping[str, str]] = version.get("Components") or ()
    for component in components:
        if "podman" in component.get("Name", "").lower():
            return f"Podman {component.get('Version', '')}".strip()
    return f"Docker {version.get('Version', '')}".strip()


def reached_at(client: Any, address: Address, env: Mapping[str, str], host: str) -> tuple[str, str]:
    """Where published ports are reached, and where that comes from.

    Args:
        client: A ``docker.DockerClient``.
        address: The address of the engine.
        env: Variables that may name the host.
        host: The host that the project names, which comes first; empty for none.

    Returns:
        The host and its source; the source is empty for the loopback address.
    """
    if host:
        return host, "docker.host"
    if override := env.get("TESTCONTAINERS_HOST_OVERRIDE"):
        return override, "TESTCONTAINERS_HOST_OVERRIDE"
    if address.host:
        # "localhost" may resolve to IPv6 first, and the port may be another one there.
        local = address.host == "localhost"
        return ("127.0.0.1", "") if local else (address.host, f"the host of {address.why}")
    if gateway := _gateway(client):
        return gateway, "the engine's side of this container's network"
    return "127.0.0.1", ""


def _gateway(client: Any) -> str:
    """The engine's machine, as this process reaches it from a container of that engine; empty outside of one.

    The engine is asked, because it may run in the same container, and then its ports are published here.
    """
    if not in_container():
        return ""
    from docker.errors import APIError

    for name in (container_id(), socket.gethostname()):
        if not name:
            continue
        try:
            ours: Any = client.api.inspect_container(name)
        except APIError:
            continue
        networks: Mapping[str, Any] = ours["NetworkSettings"].get("Networks") or {}
        return next((network["Gateway"] for network in networks.values() if network.get("Gateway")), "")
    return ""
