"""The sockets on which a process listens, from /proc."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import struct
from pathlib import Path

__all__ = ["listening", "unix_sockets"]

_LISTEN = "0A"


def listening(process: int) -> set[tuple[str, int]]:
    """Addresses and ports of TCP on which `process` listens."""
    inodes = _inodes(process)
    found: set[tuple[str, int]] = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == _LISTEN and rest[5] in inodes:
                address, _, port = local.partition(":")
                found.add((_address(address), int(port, 16)))
    return found


def unix_sockets(process: int) -> set[str]:
    """The paths of its Unix sockets."""
    inodes = _inodes(process)
    lines = [line.split() for line in Path(f"/proc/{process}/net/unix").read_text().splitlines()[1:]]
    return {words[7] for words in lines if len(words) > 7 and words[6] in inodes}


def _inodes(process: int) -> set[str]:
    found: set[str] = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(link)
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


def _address(text: str) -> str:
    # Words of 32 bits, each in the order of this machine.
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))
