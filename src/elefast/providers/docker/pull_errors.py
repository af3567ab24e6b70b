"""Why a pull failed, by the words of the engine: its status is the same for every reason."""

from __future__ import annotations

import re
from enum import Enum

from elefast.errors import ConfigurationError, ElefastError, Problem, ServerUnavailableError

__all__ = ["Refusal", "classify", "pull_error", "registry_of"]


class Refusal(Enum):
    """Why the engine did not give an image."""

    REFERENCE = "reference"
    PLATFORM = "platform"
    ABSENT = "absent"
    ACCESS = "access"
    DISK = "disk"
    TRANSIENT = "transient"
    OTHER = "other"


_CODES = {
    Refusal.REFERENCE: "image-reference",
    Refusal.PLATFORM: "image-not-found",
    Refusal.ABSENT: "image-not-found",
    Refusal.ACCESS: "image-access",
    Refusal.DISK: "image-disk-full",
}


# The order matters, because a message may have the words of several: Docker Hub says "denied" of a missing repository.
_WORDS = (
    (
        Refusal.REFERENCE,
        r"invalid reference format|repository name must|no Host in request URL"
        r"|short-name .* did not resolve|unqualified-search registries",
    ),
    (Refusal.PLATFORM, r"no matching manifest|does not match the specified platform|no image found in .*index for"),
    (Refusal.TRANSIENT, r"toomanyrequests|too many requests|rate limit|\b429\b"),
    (Refusal.DISK, r"no space left on device|disk quota exceeded"),
    (Refusal.ACCESS, r"pull access denied|repository does not exist or may require"),
    (Refusal.OTHER, r"x509|certificate|server gave HTTP response to HTTPS client"),
    (
        Refusal.TRANSIENT,
        r"no such host|name resolution|server misbehaving|dial tcp|connection (?:refused|reset)|broken pipe"
        r"|unreachable|time(?:d )?-?out|deadline exceeded|\bEOF\b|proxyconnect"
        r"|unexpected HTTP status:? 5\d\d|HTTP status code:? 5\d\d|\b50[0234] [A-Z]|service unavailable",
    ),
    (Refusal.ACCESS, r"unauthorized|denied|forbidden|no basic auth credentials|authentication required|\b40[13]\b"),
    (Refusal.ABSENT, r"manifest (?:for .* )?(?:not found|unknown)|name[ _]unknown|not found|not known to registry"),
)


def classify(said: str) -> Refusal:
    """The reason that the words of the engine give."""
    for refusal, words in _WORDS:
        if re.search(words, said, re.IGNORECASE):
            return refusal
    return Refusal.OTHER


def registry_of(reference: str) -> str:
    """The registry that a reference names, as ``docker login`` takes it; ``docker.io`` if it names none."""
    first, slash, _ = reference.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return first if named else "docker.io"


def pull_error(
    refusal: Refusal, reference: str, said: str, *, platform: str = "", present: bool = False
) -> ElefastError:
    """The error for the user: the words of the engine and one hint.

    Args:
        refusal: Why the pull failed.
        reference: The image.
        said: The engine's own words.
        platform: The platform that the project asks for.
        present: Whether the engine has an image of this name, and only its renewal failed.
    """
    registry = registry_of(reference)
    code = _CODES.get(refusal, "image-pull-failed")
    if refusal is Refusal.REFERENCE:
        message = f'the engine does not accept "{reference}": {said}'
        hint = "write a reference such as postgres:18, or in full: docker.io/library/postgres:18"
        return ConfigurationError([Problem("", "docker.image", message, code=code)], hint)
    if refusal in (Refusal.PLATFORM, Refusal.ABSENT):
        wanted = f" for {platform}" if platform else ""
        message = f'there is no image "{reference}"{wanted} in {registry}: {said}'
        hint = f"check name and tag; `docker manifest inspect {reference}` lists the platforms"
        key = "docker.platform" if platform and refusal is Refusal.PLATFORM else "docker.image"
        return ConfigurationError([Problem("", key, message, code=code)], hint)
    hint = f"run `docker pull {reference}` until it works"
    if refusal is Refusal.ACCESS:
        login = "docker login" if registry == "docker.io" else f"docker login {registry}"
        hint = f"check name and tag, run `{login}` as the user who runs the tests"
    elif refusal is Refusal.DISK:
        hint = "make room: `docker system df` shows what the engine keeps"
    instead = (
        'set docker.pull = "missing", which takes the image that is here'
        if present
        else "set docker.image to one that `docker images` lists"
    )
    return ServerUnavailableError(
        f"image {reference} cannot be pulled\nthe engine says: {said}\n{hint}, or {instead}", code=code
    )
