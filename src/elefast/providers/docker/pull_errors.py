"""Why a pull failed, from what the engine says: it has one status for everything, the words make the difference."""

from __future__ import annotations

import re
from enum import Enum

from elefast.errors import ConfigurationError, ElefastError, Problem, ServerUnavailableError

__all__ = ["Refusal", "error", "registry_of", "understand"]


class Refusal(Enum):
    """What stands between us and an image."""

    MALFORMED = "malformed"
    PLATFORM = "platform"
    ABSENT = "absent"
    ABSENT_OR_PRIVATE = "absent or private"
    ACCESS = "access"
    LIMIT = "limit"
    BUSY = "busy"
    TRUST = "trust"
    NETWORK = "network"
    DISK = "disk"
    SHORT_NAME = "short name"
    OTHER = "other"

    @property
    def may_pass(self) -> bool:
        """Whether another attempt may go better."""
        return self in (Refusal.LIMIT, Refusal.BUSY, Refusal.NETWORK)


# In this order: a message may have the words of several, such as the "denied" of a missing repository of Docker Hub.
_WORDS = (
    (Refusal.MALFORMED, r"invalid reference format|repository name must|no Host in request URL"),
    (Refusal.SHORT_NAME, r"short-name .* did not resolve|unqualified-search registries"),
    (Refusal.PLATFORM, r"no matching manifest|does not match the specified platform|no image found in .*index for"),
    (Refusal.LIMIT, r"toomanyrequests|too many requests|rate limit|\b429\b"),
    (Refusal.ABSENT_OR_PRIVATE, r"pull access denied|repository does not exist or may require"),
    (Refusal.DISK, r"no space left on device|disk quota exceeded"),
    (Refusal.TRUST, r"x509|certificate|server gave HTTP response to HTTPS client"),
    (
        Refusal.NETWORK,
        r"no such host|name resolution|server misbehaving|dial tcp|connection (?:refused|reset)|broken pipe"
        r"|unreachable|time(?:d )?-?out|deadline exceeded|\bEOF\b|proxyconnect",
    ),
    (Refusal.BUSY, r"unexpected HTTP status:? 5\d\d|HTTP status code:? 5\d\d|\b50[0234] [A-Z]|service unavailable"),
    (Refusal.ACCESS, r"unauthorized|denied|forbidden|no basic auth credentials|authentication required|\b40[13]\b"),
    (
        Refusal.ABSENT,
        r"manifest (?:for .* )?(?:not found|unknown)|name[ _]unknown|not found|not known to registry",
    ),
)

_CODES = {
    Refusal.ABSENT_OR_PRIVATE: "image-access",
    Refusal.ACCESS: "image-access",
    Refusal.DISK: "image-disk-full",
}


def understand(said: str) -> Refusal:
    """What the words of the engine mean."""
    for refusal, words in _WORDS:
        if re.search(words, said, re.IGNORECASE):
            return refusal
    return Refusal.OTHER


def registry_of(reference: str) -> str:
    """The registry that a reference names, as ``docker login`` takes it; ``docker.io`` where it names none."""
    first, slash, _ = reference.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return first if named else "docker.io"


def error(refusal: Refusal, reference: str, said: str, *, platform: str = "", present: bool = False) -> ElefastError:
    """The error for people.

    Args:
        refusal: What it means.
        reference: The image.
        said: The engine's own words.
        platform: What the project asks for.
        present: An image of this name is there, only not a fresh one.
    """
    where = registry_of(reference)
    login = "docker login" if where == "docker.io" else f"docker login {where}"
    instead = "or set docker.image to one that `docker images` lists"
    if present:
        instead = 'or set docker.pull = "missing", which takes the image that is here'
    match refusal:
        case Refusal.MALFORMED:
            return _wrong(
                "docker.image",
                f'"{reference}" is no reference of an image: {said}',
                "such as postgres:18",
                "image-reference",
            )
        case Refusal.SHORT_NAME:
            full = f'"docker.io/library/{reference}"' if "/" not in reference else f'"docker.io/{reference}"'
            return _wrong(
                "docker.image", f'"{reference}" names no registry: {said}', f"write {full}", "image-reference"
            )
        case Refusal.PLATFORM:
            return _wrong(
                "docker.platform" if platform else "docker.image",
                f'there is no "{reference}" for {platform or "the platform of this engine"}: {said}',
                f"`docker manifest inspect {reference}` lists the platforms",
                "image-not-found",
            )
        case Refusal.ABSENT:
            return _wrong(
                "docker.image",
                f'there is no image "{reference}" in {where}: {said}',
                f"check name and tag; `docker pull {reference}` tries again",
                "image-not-found",
            )
        case Refusal.ABSENT_OR_PRIVATE:
            what = f"image {reference} does not exist, or {where} does not show it to us"
            remedy = f"check name and tag, run `{login}` as the user who runs the tests"
        case Refusal.ACCESS:
            what = f"no access to image {reference}"
            remedy = f"run `{login}` as the user who runs the tests"
        case Refusal.LIMIT:
            what = f"{where} limits how often we may pull, image {reference} has to wait"
            remedy = f"wait, run `{login}` (an account has a higher limit)"
        case Refusal.BUSY:
            what = f"{where} has troubles of its own, image {reference} cannot be pulled now"
            remedy = f"run `docker pull {reference}` later"
        case Refusal.TRUST:
            what = f"the engine does not trust {where}, image {reference} cannot be pulled"
            remedy = "add its certificate, or list it as an insecure registry, in the configuration of the engine"
        case Refusal.NETWORK:
            what = f"{where} cannot be reached, image {reference} cannot be pulled"
            remedy = f"check network, proxy and DNS of the engine, run `docker pull {reference}`"
        case Refusal.DISK:
            what = f"no space for image {reference} where the engine keeps its images"
            remedy = "run `docker system df`, remove what nobody needs"
        case Refusal.OTHER:
            what = f"image {reference} cannot be pulled"
            remedy = f"run `docker pull {reference}`"
    return ServerUnavailableError(
        f"{what}\nthe engine says: {said}\n{remedy}, {instead}", code=_CODES.get(refusal, "image-pull-failed")
    )


def _wrong(key: str, message: str, hint: str, code: str) -> ConfigurationError:
    return ConfigurationError([Problem("", key, message, code=code)], hint)
