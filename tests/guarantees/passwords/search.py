"""Looking for a secret in whatever a run shows, writes and starts.

A second secret, that each run gives away on purpose, tells whether one looks at the right places: a search that does
not find it proves nothing.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Secret", "Watch", "in_files", "unsafe"]


class Secret:
    """A password that no text has by chance, and all that would give it away.

    It has what URLs, shells, TOML and SQL quote between two parts that nothing quotes, so that each of these parts
    is there in whatever form.

    Args:
        text: Of one that is there already, without anything that is quoted.
    """

    def __init__(self, text: str = "") -> None:
        parts = [text] if text else [secrets.token_hex(12) for _ in range(2)]
        self.text = text or "@:/%+ '".join(parts)
        self._forms = [form for part in parts for form in _forms(part.encode())]

    def is_in(self, data: bytes | str) -> bool:
        """Whether `data` have a part of it: plain, quoted, in base64 (at each of three offsets), in hexadecimal."""
        looked_at = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        return any(form in looked_at for form in self._forms)


def _forms(part: bytes) -> Iterable[bytes]:
    yield part
    yield part.hex().encode()
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + part)
        # Without the characters that what is before and after has a share in.
        yield whole[(before * 8 + 5) // 6 : (before + len(part)) * 8 // 6]


def in_files(secret: Secret, *directories: Path) -> list[Path]:
    """The files in `directories` that have the secret, or whose names do."""
    found: list[Path] = []
    for directory in directories:
        for where, _, names in os.walk(directory):
            for name in names:
                path = Path(where, name)
                with contextlib.suppress(OSError):  # it may be gone, or be a socket
                    if secret.is_in(str(path)) or (path.is_file() and secret.is_in(path.read_bytes())):
                        found.append(path)
    return found


def unsafe(path: Path) -> str:
    """Why somebody else may read the file at `path`, in words; empty where nobody may."""
    file, directory = path.stat(), path.parent.stat()
    if file.st_uid != os.geteuid() or directory.st_uid != os.geteuid():
        return f"{path} is of user {file.st_uid} in a directory of user {directory.st_uid}"
    # What root starts runs as somebody else, who has to get through.
    most = 0o711 if os.geteuid() == 0 else 0o700
    if stat.S_IMODE(file.st_mode) != 0o600 or stat.S_IMODE(directory.st_mode) & ~most:
        return f"{path} has mode {file.st_mode:o} in a directory of mode {directory.st_mode:o}"
    return ""


class Watch:
    """Looks at the command lines of all processes, and at the environment of those of other users, until it ends.

    Args:
        secret: Must be in none of them.
        plant: Is in both of a process that waits until it has been seen.
        directories: In these, files are looked at while that process waits.
        seen: The file that this process waits for.
    """

    def __init__(self, secret: Secret, plant: Secret, directories: Iterable[Path], seen: Path) -> None:
        self.hits: set[str] = set()
        """What has the secret that should not."""
        self.planted: set[str] = set()
        """Where the planted one was found: ``cmdline``, ``environ``, ``files``."""
        self.files: dict[Path, str] = {}
        """Files with the secret, and why each is not safe."""
        self._secret, self._plant, self._directories, self._seen = secret, plant, tuple(directories), seen
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    self._look(process)
            if self.planted >= {"cmdline", *(["environ"] if os.geteuid() == 0 else [])} and not self._seen.exists():
                self._look_at_files()
                self._seen.touch()

    def _look(self, process: Path) -> None:
        command = (process / "cmdline").read_bytes()
        self._note("cmdline", command, command)
        if process.stat().st_uid != os.geteuid():
            self._note("environ", (process / "environ").read_bytes(), command)

    def _note(self, what: str, data: bytes, command: bytes) -> None:
        if self._secret.is_in(data):
            self.hits.add(f"{what} of {command!r}")
        if self._plant.is_in(data):
            self.planted.add(what)

    def _look_at_files(self) -> None:
        if in_files(self._plant, *self._directories):
            self.planted.add("files")
        for path in in_files(self._secret, *self._directories):
            with contextlib.suppress(FileNotFoundError):
                self.files[path] = unsafe(path)
