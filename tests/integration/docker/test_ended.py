"""A lease whose engine does not answer when somebody asks what became of the container."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import Any

from docker import DockerClient

from elefast.providers.docker import DockerLease
from elefast.providers.docker.address import Address
from elefast.providers.docker.engine import DockerEngine


def test_an_engine_that_does_not_answer_is_asked_once() -> None:
    """Each question may take a minute, and the server may still be well: nobody is told that it has ended."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    asked: list[bytes] = []

    def hang_up() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(4096))

    thread = threading.Thread(target=hang_up)
    thread.start()
    client = DockerClient(base_url=url, version="1.43", timeout=5)
    wanted: Any = SimpleNamespace(container_name="elefast-x", reuse=False)
    found: Any = SimpleNamespace(access=None, container="0" * 64, version="18.1", notes=())
    share: Any = None
    try:
        engine = DockerEngine(client, Address(url, "the test"), name="Docker 28")
        lease = DockerLease(engine, wanted, found, share, -1, reason="")
        assert [lease.ended(), lease.ended()] == ["", ""]
    finally:
        client.close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
    (question,) = asked
    assert question.startswith(b"GET /v1.43/containers/0000")
