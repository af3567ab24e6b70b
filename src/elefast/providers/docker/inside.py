"""The container that this process runs in, if it runs in one."""

from __future__ import annotations

import os
import re

__all__ = ["container_id", "in_container", "sandbox"]

MARKS = ("/.dockerenv", "/run/.containerenv")
MOUNTS = "/proc/self/mountinfo"
# Of the mounts that an engine makes in each of its containers, and in no other.
OWN_MOUNT = re.compile(r"[/-]containers/([0-9a-f]{64})/\S+ /etc/(?:hostname|hosts|resolv\.conf) ")


def in_container() -> bool:
    """Whether an engine says that this is one."""
    return any(os.path.exists(mark) for mark in MARKS)


def container_id() -> str:
    """Its id; empty where it does not show."""
    try:
        with open(MOUNTS, encoding="utf-8") as file:
            match = OWN_MOUNT.search(file.read())
    except OSError:
        return ""
    return match[1] if match else ""


def sandbox() -> str:
    """The same for all processes of one container, another for each container; empty outside.

    Host names do not tell them apart: they may be fixed, or the machine's (``--network host``).
    """
    if not in_container():
        return ""
    if identity := container_id():
        return identity
    try:
        return str(os.stat("/dev/shm").st_dev)
    except OSError:
        return ""
