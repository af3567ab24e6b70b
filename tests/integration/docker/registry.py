"""A registry of images on the loopback: the few requests of the distribution API that a pull makes.

It stands in for Docker Hub and private registries, which tests must not depend on. The engine that pulls is real;
it takes what lies below 127.0.0.0/8 without TLS.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Registry", "Upset", "answer", "cut_off", "layer", "serve"]

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

Upset = Callable[["_Handler"], bool]
"""What goes wrong with a request for a manifest: True where it has been answered, or cut off."""


@dataclass
class Registry:
    """What is in the registry, how it misbehaves, and what it was asked."""

    address: str
    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    manifests: dict[str, bytes] = field(default_factory=dict[str, bytes])
    users: dict[str, str] = field(default_factory=dict[str, str])
    """Names and passwords; where there are any, nobody else gets in."""
    upsets: list[Upset] = field(default_factory=list[Upset])
    """One for each of the next requests for a manifest."""
    blob_asked: threading.Event = field(default_factory=threading.Event)
    blobs_may_go: threading.Event = field(default_factory=threading.Event)
    """Set, but where a test has to catch a pull in the middle."""
    asked: list[str] = field(default_factory=list[str])

    def add(self, name: str, layers: list[bytes], *, architecture: str = "amd64") -> str:
        """Put an image there, ``repository:tag``, made of tar files; its digest."""
        compressed = [gzip.compress(layer, mtime=0) for layer in layers]
        config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Cmd": ["true"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": self._blob(_CONFIG, config),
                "layers": [self._blob(_LAYER, layer) for layer in compressed],
            }
        ).encode()
        repository, _, tag = name.partition(":")
        digest = _digest(manifest)
        self.manifests[f"{repository}/manifests/{tag}"] = manifest
        self.manifests[f"{repository}/manifests/{digest}"] = manifest
        return digest

    def manifests_asked(self) -> int:
        """How many pulls there were: the engine asks for a manifest first in each."""
        return sum("/manifests/" in path for path in self.asked)

    def _blob(self, kind: str, content: bytes) -> dict[str, Any]:
        digest = _digest(content)
        self.blobs[digest] = content
        return {"mediaType": kind, "size": len(content), "digest": digest}


def answer(status: int, code: str, message: str = "no reason given") -> Upset:
    """A refusal as registries write it."""

    def upset(handler: _Handler) -> bool:
        handler.refuse(status, code, message)
        return True

    return upset


def cut_off(handler: _Handler) -> bool:
    """The connection ends without an answer."""
    handler.close_connection = True
    handler.connection.close()
    return True


def layer(name: str, size: int = 1000) -> bytes:
    """A tar file with one file in it, of bytes that do not compress."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = size
        archive.addfile(member, io.BytesIO(os.urandom(size)))
    return content.getvalue()


@contextmanager
def serve() -> Iterator[Registry]:
    """An empty registry on a port of 127.0.0.1, which is gone at the end."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry = Handler.registry = Registry(f"127.0.0.1:{server.server_port}")
    registry.blobs_may_go.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        registry.blobs_may_go.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        registry = self.registry
        registry.asked.append(self.path)
        if not self._may_enter():
            self.refuse(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": 'Basic realm="test"'})
            return
        path = self.path.removeprefix("/v2/")
        if not path:
            self._send(200, b"{}", "application/json")
        elif "/manifests/" in path:
            if registry.upsets and registry.upsets.pop(0)(self):
                return
            manifest = registry.manifests.get(path)
            if manifest is None:
                self.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
            else:
                self._send(200, manifest, _MANIFEST, {"Docker-Content-Digest": _digest(manifest)})
        else:
            registry.blob_asked.set()
            registry.blobs_may_go.wait(60)
            blob = registry.blobs.get(path.rpartition("/")[2])
            if blob is None:
                self.refuse(404, "BLOB_UNKNOWN", "blob unknown")
            else:
                self._send(200, blob, "application/octet-stream")

    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._send(status, body, "application/json", headers)

    def _may_enter(self) -> bool:
        users = self.registry.users
        scheme, _, text = self.headers.get("Authorization", "").partition(" ")
        if not users:
            return True
        name, _, password = base64.b64decode(text).decode().partition(":") if scheme == "Basic" else ("", "", "")
        return users.get(name) == password and bool(name)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-API-Version", "registry/2.0")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence: the requests are in `Registry.asked`."""


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
