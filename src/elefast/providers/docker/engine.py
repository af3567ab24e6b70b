"""A Docker engine, or Podman: talking to it, and where the ports that it publishes can be reached."""

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
from elefast.providers.docker.address import NO_PERMISSION, Address, find, silence
from elefast.providers.docker.inside import container_id, in_container

__all__ = ["Engine", "connect", "engine_name", "over", "probe", "reached_at"]

PROBE_TIMEOUT = 0.7
CONTACT_TIMEOUT = 10.0
ANSWER_TIMEOUT = 60.0
NOT_INSTALLED = 'the docker extra is not installed: pip install "elefast[docker]"'


class Engine:
    """An engine that answers.

    Args:
        client: A ``docker.DockerClient``.
        address: Where it listens.
        name: ``Docker 28.1.0`` or ``Podman 5.4.0``.
        host: Where its published ports are reached.
        why: Who says so; empty where it goes without saying.
        borrowed: The client is somebody else's to close.
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
        """The address to publish on: only this machine's own wherever that is enough."""
        if self.host == "localhost":
            return "127.0.0.1"
        try:
            return self.host if ipaddress.ip_address(self.host).is_loopback else ""
        except ValueError:
            return ""

    def locate(self, env: Mapping[str, str], host: str) -> None:
        """Find out where published ports are reached.

        Args:
            env: May say so.
            host: What says so first.
        """
        with self.doing("looking where its ports are reached"):
            self.host, self.why = reached_at(self.client, self.address, env, host)

    @contextmanager
    def doing(self, what: str) -> Generator[None]:
        """Turn what goes wrong between us and the engine, and refusals that nobody expects, into errors for people.

        Args:
            what: "starting the container", for the message.

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
            # The SDK's way to say that reading timed out in the middle of an answer.
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
        # Podman 4 takes several labels for alternatives.
        return [one for one in found if labels.items() <= (one.get("Labels") or {}).items()]

    def close(self) -> None:
        """Close the connections, if they are ours."""
        if not self._borrowed:
            self.client.close()


def probe(env: Mapping[str, str] | None = None) -> str:
    """Why ``auto`` has to pass Docker over; empty where an engine answers. Takes well under a second."""
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
) -> Engine:
    """Find the engine and get in touch with it.

    Args:
        env: ``DOCKER_HOST`` and its kin.
        host: Where published ports are reached, if the project says so.
        contact_timeout: Seconds for the first answer.
        answer_timeout: Seconds for any other answer.

    Raises:
        MissingDependencyError: The docker extra is not installed.
        ServerUnavailableError: There is no engine, or none that lets us in.
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
        engine = Engine(client, address, name=engine_name(version))
        engine.locate(env, host)
        opened.pop_all()
    return engine


def over(client: Any, env: Mapping[str, str], *, host: str = "") -> Engine:
    """The engine of a client that somebody else made, and closes.

    Args:
        client: A ``docker.DockerClient``.
        env: What may say where ports are reached.
        host: What says so first.

    Raises:
        ServerUnavailableError: It does not answer.
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
    engine = Engine(client, address, name=engine_name(version), borrowed=True)
    engine.locate(env, host)
    return engine


def _url(client: Any) -> str:
    """Where a client connects to; for sockets and ssh its own URL says nothing about that."""
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
    """Where published ports are reached, and who says so; empty where it goes without saying."""
    if host:
        return host, "docker.host"
    if override := env.get("TESTCONTAINERS_HOST_OVERRIDE"):
        return override, "TESTCONTAINERS_HOST_OVERRIDE"
    if address.host:
        # IPv6 would come first for "localhost", and there the port may be another one.
        local = address.host == "localhost"
        return ("127.0.0.1", "") if local else (address.host, f"the host of {address.why}")
    if gateway := _gateway(client):
        return gateway, "the engine's side of this container's network"
    return "127.0.0.1", ""


def _gateway(client: Any) -> str:
    """The engine's machine, seen from the container of that engine which we run in; empty if we are in none.

    A container may also have an engine of its own in it, whose ports are just here; so the engine is asked.
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
