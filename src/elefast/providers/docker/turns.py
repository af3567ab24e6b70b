"""Things that one of several processes does for all of them: getting the image, starting the container."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from elefast import errors
from elefast.errors import ConfigurationError, ElefastError, Problem, ServerStartError
from elefast.providers.docker.container import digest
from elefast.providers.docker.pull import ensure_image, find_image
from elefast.providers.docker.sharing import Share, Turn

if TYPE_CHECKING:
    from typing import Literal

    from elefast.providers.docker.engine import Engine

__all__ = ["get_image", "taking_turns"]

PULL_TIMEOUT = 1800.0


@contextmanager
def taking_turns(share: Share, began: float, *, what: str, timeout: float) -> Generator[Turn]:
    """Wait for the turn; one error for all who waited for it, while whoever comes later has a try of his own.

    Args:
        share: Its locks, of which we are a user.
        began: When we came, in seconds since the epoch.
        what: The turn is for: "starts the container".
        timeout: Seconds that we wait for it at most.
    """
    with share.turn(what, timeout) as turn:
        written = turn.read()
        if "failed" in written and written["at"] >= began:
            raise _as_error(written["failed"])
        try:
            yield turn
        except ElefastError as error:
            # What is written stays: the container may well be in use by those who came before us.
            with contextlib.suppress(ServerStartError):  # the first one is the one to see
                turn.write({**turn.read(), "failed": _as_values(error), "at": time.time()})
            raise


def get_image(
    engine: Engine, root: str, reference: str, *, policy: Literal["missing", "always", "never"], platform: str
) -> Any:
    """The image; of all processes that want one which is not here, one pulls it and the others wait.

    Args:
        engine: Where.
        root: The directory of all locks.
        reference: As Docker writes it.
        policy: See `ensure_image`.
        platform: Such as ``linux/arm64``; empty for the engine's own.
    """
    if policy != "always":
        with engine.doing("looking for the image"):
            here: Any = find_image(engine.client, reference, platform)
        if here is not None:
            return here
    began = time.time()
    share = Share(root, digest("image", engine.address.url, reference, platform))
    users = share.join()
    try:
        with (
            taking_turns(share, began, what=f"gets image {reference}", timeout=PULL_TIMEOUT) as turn,
            engine.doing("getting the image"),
        ):
            pulled = turn.read().get("pulled", 0.0) >= began
            image: Any = ensure_image(
                engine.client, reference, policy="missing" if pulled else policy, platform=platform
            )
            turn.write({"pulled": time.time()})
            return image
    finally:
        with share.alone(users):
            pass  # nothing but the lock is shared


def _as_values(error: ElefastError) -> dict[str, Any]:
    if isinstance(error, ConfigurationError):
        return {
            "problems": [[one.origin, one.key, one.message, one.code] for one in error.problems],
            "hint": error.hint,
        }
    return {"kind": type(error).__name__, "message": str(error), "code": error.code}


def _as_error(values: Mapping[str, Any]) -> ElefastError:
    """The error that another process had: ``kind`` and ``message``, or the ``problems`` of a configuration."""
    if "problems" in values:
        return ConfigurationError([Problem(*one) for one in values["problems"]], values["hint"])
    kind: type[ElefastError] = getattr(errors, values["kind"], ServerStartError)
    return kind(values["message"], code=values.get("code", ""))
