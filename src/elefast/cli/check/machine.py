"""Probes of the machine: containers, PostgreSQL's binaries, room for data, limits."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from elefast.cli.check._probe import Probe, ProbeResult, bad, good, not_checked, warning
from elefast.errors import ElefastError, MissingDependencyError

if TYPE_CHECKING:
    from elefast.config.model import Settings

__all__ = ["MachineProbes"]

_MEGABYTE = 1024 * 1024
_ROOM = 512 * _MEGABYTE
_FILES = 1024
_NOT_ON_WINDOWS = "local servers are not supported on Windows"


class MachineProbes:
    """The probes.

    Args:
        settings: What the project wants.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def probes(self) -> list[Probe]:
        """In the order in which they make sense to a reader."""
        return [
            Probe("docker", self.docker),
            Probe("binaries", self.binaries),
            Probe("memory", self.memory),
            Probe("open files", self.files),
        ]

    @property
    def _provider(self) -> str:
        named = self._settings.provider
        return "url" if named == "auto" and self._settings.engine.url else named

    def docker(self) -> ProbeResult:
        """Whether an engine answers, and has the image."""
        if self._provider not in ("auto", "docker"):
            return not_checked(f'provider = "{self._provider}" needs none')
        needed = self._provider == "docker"
        from elefast.providers.docker.engine import connect
        from elefast.providers.docker.pull import find_image

        try:
            engine = connect(os.environ, host=self._settings.docker.host, contact_timeout=3, answer_timeout=10)
        except (ElefastError, MissingDependencyError) as error:
            if needed:
                raise
            return not_checked(str(error).splitlines()[0])
        try:
            image = self._settings.docker.image
            with engine.doing("looking for the image"):
                here = find_image(engine.client, image, self._settings.docker.platform)
                text = f"{engine}, version {engine.client.version()['Version']}"
            if here is not None:
                return good(f"{text}, has {image}")
            if self._settings.docker.pull == "never":
                return bad(f'{text}, has no {image}, and pull = "never"', f"docker pull {image}")
            return warning(f"{text}, has no {image} yet", f"the first run pulls it; before: docker pull {image}")
        finally:
            engine.close()

    def binaries(self) -> ProbeResult:
        """Whether there is a PostgreSQL on this machine that fits."""
        if self._provider not in ("auto", "local"):
            return not_checked(f'provider = "{self._provider}" needs none')
        if sys.platform == "win32":
            return not_checked(_NOT_ON_WINDOWS)
        from elefast.providers.local.binaries import find

        try:
            found = find(self._settings.local.bin_dir, self._settings.postgres, self._settings.extensions)
        except ElefastError as error:
            if self._provider == "local":
                raise
            return not_checked(str(error).splitlines()[0])
        text = f"PostgreSQL {found.version} ({found.origin}) in {found.directory}"
        if os.geteuid() == 0:
            text += f", run as {self._settings.local.run_as or 'another user'}, since this is root"
        return good(text)

    def memory(self) -> ProbeResult:
        """Whether there is room for the data where it would lie."""
        if self._provider in ("url", "docker"):
            return not_checked(f'provider = "{self._provider}" puts nothing on this machine\'s file systems')
        if sys.platform == "win32":
            return not_checked(_NOT_ON_WINDOWS)
        if self._settings.local.data_dir:
            place, what = self._settings.local.data_dir, "local.data_dir"
        else:
            place, what = "/dev/shm", "memory"
            if not os.path.isdir(place):
                return warning(
                    "there is no /dev/shm, so data lie on the disk", "a RAM disk as local.data_dir is quicker"
                )
        from elefast.providers.files.directories import space

        free, total = space(place)
        text = f"{what} at {place}: {free // _MEGABYTE} MB free of {total // _MEGABYTE} MB"
        if free < _ROOM:
            return warning(text, "make room there (in a container: --shm-size=1g), or set local.data_dir")
        return good(text)

    def files(self) -> ProbeResult:
        """Whether many workers can have their connections."""
        try:
            import resource
        except ImportError:
            return not_checked("Windows has no such limit")
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        text = "without limit" if soft == resource.RLIM_INFINITY else str(soft)
        if soft != resource.RLIM_INFINITY and soft < _FILES:
            return warning(f"at most {text} open files", f"ulimit -n {_FILES}")
        return good(f"at most {text}, {shutil.disk_usage('/').free // _MEGABYTE} MB free on /")
