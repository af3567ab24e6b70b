"""What psql sends to a server for a script: psql itself says so, to a server that only takes notes.

Nothing of a script has to mean anything, so scripts can be made of any pieces; and psql's rules need not be
written down a second time here.
"""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Sent", "Witness", "bare", "standard_strings", "witness"]

_COPY = re.compile(rb"\s*copy\s+\w+\s+from\s+stdin\b", re.IGNORECASE)
_STRINGS = re.compile(r"set\s+standard_conforming_strings\s*=\s*(on|off)$", re.IGNORECASE)
_PARAMETERS = {"server_version": "15.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
_COMPLETE = b"C" + struct.pack("!I", 4 + len(b"DONE\0")) + b"DONE\0"
_READY = b"Z" + struct.pack("!Ic", 5, b"I")


@dataclass(frozen=True)
class Sent:
    """One statement that psql sent, and the data that it sent for it, if it was asked for some."""

    text: str
    data: str | None = None


class Witness:
    """A server for psql that says yes to everything.

    Args:
        psql: The program.
        directory: Where its socket and scripts are.
    """

    def __init__(self, psql: str, directory: Path) -> None:
        self._psql = psql
        self._directory = directory
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(directory / ".s.PGSQL.5432"))
        self._socket.listen()
        self._sent: list[Sent] = []

    def run(self, script: bytes) -> list[Sent]:
        """What psql sends for `script`."""
        file = self._directory / "script.sql"
        file.write_bytes(script)
        self._sent = []
        listener = threading.Thread(target=self._listen, name="witness", daemon=True)
        listener.start()
        subprocess.run(
            [self._psql, "-X", "-q", "-h", self._directory, "-U", "nobody", "-d", "nothing", "-f", file],
            check=True,
            capture_output=True,
            timeout=60,
        )
        listener.join(60)
        assert not listener.is_alive()
        return self._sent

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _listen(self) -> None:
        connection, _ = self._socket.accept()
        with connection, connection.makefile("rb") as stream, suppress(EOFError):
            _body(stream)  # the startup message
            parts = [b"R" + struct.pack("!II", 8, 0)]
            parts += [_parameter(name, value) for name, value in _PARAMETERS.items()]
            connection.sendall(b"".join([*parts, _READY]))
            while True:
                kind = stream.read(1)
                body = _body(stream)
                if kind == b"X":
                    return
                if kind == b"Q":
                    self._answer(connection, stream, body[:-1])

    def _answer(self, connection: socket.socket, stream: IO[bytes], query: bytes) -> None:
        data: str | None = None
        if _COPY.match(query):
            connection.sendall(b"G" + struct.pack("!IBH", 7, 0, 0))
            data = _copied(stream)
        answer = _COMPLETE
        if (standard := standard_strings(query.decode())) is not None:
            answer = _parameter("standard_conforming_strings", "on" if standard else "off") + answer
        self._sent.append(Sent(query.decode(), data))
        connection.sendall(answer + _READY)


@contextmanager
def witness(psql: str, directory: Path) -> Generator[Witness]:
    """A witness, as long as it is needed."""
    made = Witness(psql, directory)
    try:
        yield made
    finally:
        made.close()


def standard_strings(statement: str) -> bool | None:
    """What the statement sets standard_conforming_strings to; None where it does not."""
    match = _STRINGS.match(bare(statement))
    return match[1].lower() == "on" if match else None


def bare(text: str) -> str:
    """Without comments before it and the semicolon behind it, which psql sends, and empty lines, which it does not."""
    space = " \t\n\r\f\v"
    text = re.sub("\n+", "\n", text.strip(space).rstrip(f"{space};"))
    while text.startswith(("/*", "--")):
        if text.startswith("--"):
            text = re.split("[\n\r]", text, maxsplit=1)[1].lstrip(space) if re.search("[\n\r]", text) else ""
            continue
        depth, at = 0, 0
        while at < len(text):
            two = text[at : at + 2]
            depth += {"/*": 1, "*/": -1}.get(two, 0)
            at += 2 if two in ("/*", "*/") else 1
            if depth == 0:
                break
        text = text[at:].lstrip(space)
    return text


def _copied(stream: IO[bytes]) -> str:
    data = b""
    while True:
        kind = stream.read(1)
        body = _body(stream)
        if kind == b"d":
            data += body
        elif kind == b"c":
            return data.decode()
        else:
            raise AssertionError(f"psql sent {kind!r} amid the data")


def _body(stream: IO[bytes]) -> bytes:
    head = stream.read(4)
    if len(head) < 4:
        raise EOFError
    (length,) = struct.unpack("!I", head)
    return stream.read(length - 4)


def _parameter(name: str, value: str) -> bytes:
    body = f"{name}\0{value}\0".encode()
    return b"S" + struct.pack("!I", len(body) + 4) + body
