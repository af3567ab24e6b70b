"""The image of a container: taken as it is, or pulled where people can see it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from elefast.errors import ServerUnavailableError
from elefast.providers.docker import pull_errors
from elefast.providers.docker.progress import Progress
from elefast.providers.docker.pull_errors import Refusal
from elefast.runtime import clock, terminal
from elefast.runtime import progress as waiting

if TYPE_CHECKING:
    from typing import Literal

__all__ = ["ensure_image", "find_image"]

WAITS = (0.5, 1.0, 2.0)
TRIED_BY_ITSELF = 5.0  # seconds

_SAME = {"x86_64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm"}


def ensure_image(
    client: Any,
    reference: str,
    *,
    policy: Literal["missing", "always", "never"] = "missing",
    platform: str = "",
    waits: Sequence[float] = WAITS,
) -> Any:
    """The image that `reference` names, pulled where `policy` says so.

    Who may pull is the SDK's business: it sends what ``docker login`` left in Docker's configuration, or what
    the credential helpers named there give. An interrupted pull leaves no image, the engine names it at the end.

    Args:
        client: A ``docker.DockerClient``.
        reference: As Docker writes it: ``postgres:18``, ``registry:5000/team/postgres:18``,
            ``postgres@sha256:...``, or the id of an image that is here. Without a tag it is ``latest``; where
            there is a digest, a tag beside it means nothing.
        policy: ``missing`` pulls what is not here, also where what is here is for another `platform`;
            ``always`` asks the registry each time; ``never`` takes what is here.
        platform: Such as ``linux/arm64``; empty for the engine's own.
        waits: Seconds before each further attempt, where one failed for a reason that may pass.

    Returns:
        A ``docker.models.images.Image``.

    Raises:
        ConfigurationError: There is no such image, or the reference is none.
        ServerUnavailableError: It is not here, and cannot be had now.
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
            return image  # an id cannot be asked for anew
        raise pull_errors.error(Refusal.ABSENT, reference, "it is an id, which only this engine could know")
    return _pull(client, reference, platform, waits, present=fits)


def find_image(client: Any, reference: str, platform: str = "") -> Any:
    """The image that is here, or None.

    Raises:
        ConfigurationError: The reference is none.
        ServerUnavailableError: The engine cannot tell.
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
        raise pull_errors.error(pull_errors.understand(said), reference, said) from refused


def _pull(client: Any, reference: str, platform: str, waits: Sequence[float], *, present: bool) -> Any:
    with waiting.hidden(), terminal.standard_error() as stream:
        progress = Progress(reference, stream)
        for attempt, wait in enumerate([*waits, None], 2):
            began = clock.now()
            said = _attempt(client, reference, platform, progress)
            # Podman tries again by itself, for seconds; what was loaded so far is kept for the next attempt.
            tried = clock.now() - began > TRIED_BY_ITSELF and not progress.loading
            refusal = pull_errors.understand(said)
            if not said:
                image = _local(client, reference)
                if image is not None and _is_for(image.attrs, platform):
                    progress.pulled(image.id)
                    return image
                # Some engines take what there is, whatever the platform.
                refusal = Refusal.PLATFORM if image is not None else Refusal.ABSENT
                said = "the registry gave another one" if image is not None else "the engine does not have it after all"
            if wait is None or tried or not refusal.may_pass:
                progress.failed()
                raise pull_errors.error(refusal, reference, said, platform=platform, present=present)
            progress.again(said, wait, attempt, len(waits) + 1)
            time.sleep(wait)
    raise AssertionError("unreachable")


def _attempt(client: Any, reference: str, platform: str, progress: Progress) -> str:
    """Pull once; what went wrong, in the engine's words."""
    from docker.errors import APIError
    from docker.utils import parse_repository_tag
    from requests.exceptions import RequestException

    repository, tag = parse_repository_tag(reference)
    said = ""
    try:
        events = client.api.pull(repository, tag=tag, stream=True, decode=True, platform=platform or None)
        for event in events:
            # To the end, whatever it says: an answer that is not read would be cut off.
            said = said or _in_stream(event)
            progress.event(event)
    except APIError as refused:
        return _words(refused) or str(refused)
    except RequestException as broken:
        raise ServerUnavailableError(
            f"the Docker engine stopped answering while it pulled image {reference}: {broken}\n"
            f"see that it runs (`docker version`), then run `docker pull {reference}`",
            code="docker-lost",
        ) from broken
    return said


def _in_stream(event: Mapping[str, Any]) -> str:
    detail: Mapping[str, Any] | None = event.get("errorDetail")
    return str(event.get("error") or (detail or {}).get("message") or "")


def _words(refused: Any) -> str:
    """The engine's own words, without the SDK's address of the request around them."""
    return str(refused.explanation or "").strip()


def _is_for(attrs: Mapping[str, Any], platform: str) -> bool:
    """Whether an image fits ``os[/architecture[/variant]]``; a variant counts where both sides have one."""
    wanted = [_SAME.get(part, part) for part in platform.lower().split("/") if part]
    if len(wanted) == 1 and wanted[0] not in ("linux", "windows"):
        wanted.insert(0, attrs.get("Os", "linux"))
    has = [str(attrs.get(key) or "").lower() for key in ("Os", "Architecture", "Variant")]
    return all(not here or want == here for want, here in zip(wanted, has, strict=False))
