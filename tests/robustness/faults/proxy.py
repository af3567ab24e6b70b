"""A TCP proxy on loopback that can do to connections what networks do: cut, reset, delay, hold and swallow.

It reads what goes through only as far as to find a word in it, at which to strike.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType

__all__ = ["Proxy"]

_Pair = tuple[socket.socket, socket.socket]
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s, so that closing sends RST


class Proxy:
    """Forwards each connection to `port`, as long as nothing else is asked of it.

    Args:
        port: Of loopback.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._pairs: dict[_Pair, list[threading.Thread]] = {}
        self._threads: list[threading.Thread] = []
        self.delay = 0.0
        """Seconds that each piece of data takes more."""
        self._swallowed: list[_Pair] = []
        self.silent = False
        """Swallow all that comes, and accept connections without ever answering."""
        self._refusals = 0
        self.struck = 0
        """How often `strike_at` has struck."""
        self._word = b""
        self._before = True
        self._holds = False
        self._mute: list[_Pair] = []
        self._held_side = ""
        self.held = threading.Event()
        """Set as soon as `hold` holds a message."""
        self._let_go = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def strike_at(self, word: str, *, answer: bool, hold: bool = False) -> None:
        """Reset the next connection whose client sends `word`.

        Args:
            word: Part of a statement, or of what is sent to begin a session.
            answer: Let it through, and swallow only the answer: the server did it, and the client does not know.
            hold: Do not reset it when the answer comes.
        """
        with self._lock:
            self._word, self._before, self._holds = word.encode(), not answer, hold

    def hold(self, side: str) -> None:
        """Hold the next message of one side until `let_go` is called.

        Args:
            side: ``client`` or ``server``.
        """
        self.held.clear()
        self._let_go.clear()
        self._held_side = side

    def let_go(self) -> None:
        """Send the message that is held."""
        self._let_go.set()

    def refuse(self, times: int) -> None:
        """Reset so many new connections at once."""
        self._refusals = times

    def cut(self) -> None:
        """Reset all connections that there are; when it returns, both ends can know."""
        with self._lock:
            pairs = dict(self._pairs)
        for pair in pairs:
            _reset(*pair)
        for thread in itertools.chain.from_iterable(pairs.values()):
            thread.join(30)  # the kernel sends nothing while somebody still reads

    def swallow(self) -> None:
        """Swallow all that comes over the connections that there are, and leave them open."""
        with self._lock:
            self._swallowed += self._pairs

    def close(self) -> None:
        """Reset all, and accept no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, name="proxy", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusals:
                self._refusals -= 1
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 30)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = client, server
            with self._lock:
                self._pairs[pair] = [self._start(self._forward, pair, one, other) for one, other in (pair, pair[::-1])]

    def _forward(self, pair: _Pair, source: socket.socket, sink: socket.socket) -> None:
        from_client = source is pair[0]
        try:
            while data := source.recv(65536):
                time.sleep(self.delay)
                if self.silent or pair in self._swallowed:
                    continue
                if from_client and self._strikes(data):
                    if self._before:
                        return
                    self._mute.append(pair)
                elif pair in self._mute:
                    if self._holds:
                        continue
                    return
                if self._held_side == ("client" if from_client else "server"):
                    self._held_side = ""
                    self.held.set()
                    self._let_go.wait(60)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            _reset(*pair)
            with self._lock:
                self._pairs.pop(pair, None)

    def _strikes(self, data: bytes) -> bool:
        with self._lock:
            if not self._word or self._word not in data:
                return False
            self._word = b""
            self.struck += 1
            return True


def _reset(*ends: socket.socket) -> None:
    """End connections without a goodbye."""
    for end in ends:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.shutdown(socket.SHUT_RD)  # wakes who reads, and sends nothing
        end.close()
