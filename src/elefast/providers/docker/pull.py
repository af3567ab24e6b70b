"""Getting the image of a container: use the one that the engine has, or pull it and show how far the pull is."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from elefast.errors import ServerUnavailableError
from elefast.providers.docker.pull_errors import Refusal, classify, pull_error
from elefast.runtime import clock, progress, terminal

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal

    from rich.progress import Progress, TaskID

__all__ = ["PullDisplay", "ensure_image", "find_image"]

WAITS = (0.5, 1.0, 2.0)
ENGINE_RETRIED_AFTER = 5.0
"""Seconds. The engine has made several attempts by itself if a pull that loaded nothing took longer, as Podman does."""

_DRAW_EVERY = 0.1  # seconds
_USUAL_WIDTH = 80
_LOADING = ("Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete")
_DONE = ("Pull complete", "Already exists")
_SAME = {"x86_64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm"}


def ensure_image(
    client: Any,
    reference: str,
    *,
    policy: Literal["missing", "always", "never"] = "missing",
    platform: str = "",
    waits: Sequence[float] = WAITS,
) -> Any:
    """The image that `reference` names, pulled as `policy` requires.

    The SDK authenticates the pull: it sends what ``docker login`` left in Docker's configuration, or what the
    credential helpers named there give. An interrupted pull leaves no image, because the engine names it at the end.

    Args:
        client: A ``docker.DockerClient``.
        reference: As Docker writes it: ``postgres:18``, ``registry:5000/team/postgres:18``,
            ``postgres@sha256:...``, or the id of an image that the engine has. Without a tag it is ``latest``. A tag
            beside a digest is ignored.
        policy: ``missing`` pulls an image that the engine does not have, or has only for another `platform`.
            ``always`` asks the registry each time. ``never`` takes the image that the engine has.
        platform: Such as ``linux/arm64``; empty for the engine's own.
        waits: Seconds before each further attempt after a failure that may be transient.

    Returns:
        A ``docker.models.images.Image``.

    Raises:
        ConfigurationError: The image does not exist, or the reference is invalid.
        ServerUnavailableError: The engine does not have the image and cannot get it now.
    """
    image = _local(client, reference)
    fits = image is not None and _is_for(image.attrs, platform)
    if policy == "never" and not fits:
        which = f" for {platform}" if platform else ""
        raise ServerUnavailableError(
            f'image {reference}{which} is not here, and docker.pull = "never"\n'
            f'run `docker pull {reference}`, or set docker.pull = "missing"',
            code="image-missing",
        )
    if fits and policy != "always":
        return image
    if re.fullmatch(r"(?:sha256:)?[0-9a-f]{64}", reference):
        if image is not None:
            return image  # a registry cannot be asked for an id
        raise pull_error(Refusal.ABSENT, reference, "it is an id, which only this engine could know")
    return _pull(client, reference, platform, waits, present=fits)


def find_image(client: Any, reference: str, platform: str = "") -> Any:
    """The image that the engine has, or ``None``.

    Args:
        client: A ``docker.DockerClient``.
        reference: See `ensure_image`.
        platform: See `ensure_image`.

    Raises:
        ConfigurationError: The reference is invalid.
        ServerUnavailableError: The engine refuses to answer.
    """
    image = _local(client, reference)
    return image if image is not None and _is_for(image.attrs, platform) else None


def _local(client: Any, reference: str) -> Any:
    from docker.errors import APIError, ImageNotFound

    try:
        return client.images.get(reference)
    except ImageNotFound:
        return None
    except APIError as refused:
        said = _words(refused) or str(refused)
        raise pull_error(classify(said), reference, said) from refused


def _pull(client: Any, reference: str, platform: str, waits: Sequence[float], *, present: bool) -> Any:
    with progress.paused(), terminal.standard_error() as stream, PullDisplay(reference, stream) as display:
        for attempt, wait in enumerate([*waits, None], 2):
            began = clock.now()
            said = _attempt(client, reference, platform, display)
            engine_retried = clock.now() - began > ENGINE_RETRIED_AFTER and not display.loading
            refusal = classify(said)
            if not said:
                image = _local(client, reference)
                if image is not None and _is_for(image.attrs, platform):
                    display.pulled(image.id)
                    return image
                # Some engines take an image for another platform.
                refusal = Refusal.PLATFORM if image is not None else Refusal.ABSENT
                said = "the registry gave another one" if image is not None else "the engine does not have it after all"
            if wait is None or engine_retried or refusal is not Refusal.TRANSIENT:
                display.failed()
                raise pull_error(refusal, reference, said, platform=platform, present=present)
            display.retry(said, wait, attempt, len(waits) + 1)
            time.sleep(wait)
    raise AssertionError("unreachable")


def _attempt(client: Any, reference: str, platform: str, display: PullDisplay) -> str:
    """Pull once; the engine's words about a failure, or nothing."""
    from docker.errors import APIError
    from docker.utils import parse_repository_tag
    from requests.exceptions import RequestException

    repository, tag = parse_repository_tag(reference)
    said = ""
    try:
        events = client.api.pull(repository, tag=tag, stream=True, decode=True, platform=platform or None)
        for event in events:
            # Read on after an error, because the engine's answer would be cut off otherwise.
            said = said or _error_in(event)
            display.show(event)
    except APIError as refused:
        return _words(refused) or str(refused)
    except RequestException as broken:
        raise ServerUnavailableError(
            f"the Docker engine stopped answering while it pulled image {reference}: {broken}\n"
            f"see that it runs (`docker version`), then run `docker pull {reference}`",
            code="docker-lost",
        ) from broken
    return said


def _error_in(event: Mapping[str, Any]) -> str:
    detail: Mapping[str, Any] | None = event.get("errorDetail")
    return str(event.get("error") or (detail or {}).get("message") or "")


def _words(refused: Any) -> str:
    """The engine's own words, without the address of the request that the SDK adds."""
    return str(refused.explanation or "").strip()


def _is_for(attrs: Mapping[str, Any], platform: str) -> bool:
    """Whether an image fits ``os[/architecture[/variant]]``; a variant counts only if both sides have one."""
    wanted = [_SAME.get(part, part) for part in platform.lower().split("/") if part]
    if len(wanted) == 1 and wanted[0] not in ("linux", "windows"):
        wanted.insert(0, attrs.get("Os", "linux"))
    has = [str(attrs.get(key) or "").lower() for key in ("Os", "Architecture", "Variant")]
    return all(not here or want == here for want, here in zip(wanted, has, strict=False))


class PullDisplay:
    """Shows a pull: on a terminal one bar for all layers, elsewhere a line for each phase.

    Args:
        reference: The image, as the project wrote it.
        stream: Where it is shown.
        bar: Whether to draw a bar; by default whether `stream` is a terminal on which lines can be drawn again.
    """

    def __init__(self, reference: str, stream: TextIO, *, bar: bool | None = None) -> None:
        self._reference = reference
        self._stream = stream
        self._draws = terminal.can_draw(stream) if bar is None else bar
        self._bar: tuple[Progress, TaskID] | None = None
        self._began = clock.now()
        self._drawn = 0.0
        self._layers: dict[str, _Layer] = {}
        self._phase = ""
        self._share = 0.0
        self.loading = False
        """Whether the registry has begun to give the layers."""

    def __enter__(self) -> PullDisplay:
        # pytest may be in the middle of a line of dots.
        self._write(f"\nelefast: pulling {self._reference}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._erase_bar()

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one event of the engine's stream."""
        status, name = str(event.get("status", "")), str(event.get("id", ""))
        if name and not status.startswith("Pulling from"):
            detail: Mapping[str, Any] | None = event.get("progressDetail")
            self._layers.setdefault(name, _Layer()).update(status, detail or {})
        # The engine names all layers before it loads the first.
        self.loading = self.loading or status in _LOADING
        if not self.loading:
            return
        phase = "downloading" if any(not layer.downloaded for layer in self._layers.values()) else "extracting"
        count = f"{len(self._layers)} layer{'s' if len(self._layers) != 1 else ''}"
        if self._draws:
            self._draw(phase, count)
        elif self._phase != phase:
            self._phase = phase
            self._write(f"elefast: {phase} {self._reference}, {count}")

    def retry(self, why: str, seconds: float, attempt: int, attempts: int) -> None:
        """Show that an attempt failed and another one follows.

        Args:
            why: The engine's words.
            seconds: Until the next attempt.
            attempt: The number of the next attempt.
            attempts: How many attempts there are at most.
        """
        self._layers.clear()
        self._phase, self._share = "", 0.0
        self._write(
            f"elefast: pulling {self._reference} failed, again in {seconds:g} s ({attempt} of {attempts}): {why}"
        )

    def pulled(self, identity: str) -> None:
        """Show that the engine has the image."""
        short = identity.removeprefix("sha256:")[:12]
        self._write(f"elefast: pulled {self._reference} ({short}) in {clock.now() - self._began:.1f} s")

    def failed(self) -> None:
        """Show that no attempt follows; the error gives the reason."""
        self._write(f"elefast: {self._reference} was not pulled")

    def _draw(self, phase: str, count: str) -> None:
        # Totals become known one by one, so that the share of all layers may shrink; the bar does not.
        share = sum(layer.share for layer in self._layers.values()) / len(self._layers)
        self._share = max(self._share, share)
        now = clock.now()
        if self._bar is not None and now - self._drawn < _DRAW_EVERY:
            return
        self._drawn = now
        size = sum(layer.total for layer in self._layers.values()) / 1e6
        try:
            if self._bar is None:
                self._bar = _new_bar(self._stream)
            bar, task = self._bar
            bar.update(task, completed=self._share, description=phase, amount=f"{size:.1f} MB in {count}")
            bar.start()
            bar.refresh()
        except (OSError, ValueError):  # the terminal was closed
            self._draws = False

    def _erase_bar(self) -> None:
        if self._bar is not None:
            bar, self._bar = self._bar[0], None
            with suppress(OSError, ValueError):
                bar.stop()

    def _write(self, text: str) -> None:
        self._erase_bar()
        # A reader that closed the stream must not make a test fail.
        with suppress(OSError, ValueError):
            self._stream.write(f"{text}\n")
            self._stream.flush()


def _new_bar(stream: TextIO) -> tuple[Progress, TaskID]:
    """A bar at the bottom of a terminal, which `Progress.stop` removes."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    bar = Progress(
        TextColumn("elefast: {task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% of {task.fields[amount]}", markup=False),
        console=Console(file=stream, force_terminal=True, width=_width(stream)),
        auto_refresh=False,  # a closed terminal would raise an error in rich's thread
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
        get_time=clock.now,
    )
    return bar, bar.add_task("", total=1.0, amount="")


def _width(stream: TextIO) -> int:
    # rich would ask the descriptors 0, 1 and 2, which pytest replaces.
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_WIDTH
    return _USUAL_WIDTH


class _Layer:
    """How far one layer is; its download and its extraction count half each."""

    def __init__(self) -> None:
        self.total = 0
        self.share = 0.0
        self.downloaded = False

    def update(self, status: str, detail: Mapping[str, Any]) -> None:
        current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
        self.total = max(self.total, total)
        half = min(current / total, 1.0) / 2 if total > 0 else 0.0
        if status.startswith(_DONE):
            self.share, self.downloaded = 1.0, True
        elif status == "Extracting":
            self.share, self.downloaded = 0.5 + half, True
        elif status == "Download complete":
            self.share, self.downloaded = 0.5, True
        elif status == "Downloading":
            self.share = half
