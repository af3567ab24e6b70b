"""``provider = "auto"``: the first candidate that works, and why the earlier ones did not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elefast.errors import MissingDependencyError, ServerError, ServerUnavailableError
from elefast.providers.protocol import nothing

if TYPE_CHECKING:
    from elefast.providers.protocol import Lease

__all__ = ["AutoProvider", "Candidate"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider that may be chosen.

    Args:
        name: Its name in the reason: ``url``, ``docker``, ``local``.
        acquire: Gives a lease or raises, see `Provider.acquire`; called only when every earlier candidate was passed
            over.
        probe: Answers quickly why this candidate cannot work; empty if it may be tried.
        running: Whether its server runs.
    """

    name: str
    acquire: Callable[[Callable[[], None]], Lease]
    probe: Callable[[], str] = str
    running: Callable[[], bool] = bool


class AutoProvider:
    """Tries the candidates in their order.

    A candidate is passed over only if it has no server. An invalid configuration or a refusal ends the search, because
    the next candidate would hide it.

    Args:
        candidates: The providers to try, best first.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = tuple(candidates)

    def acquire(self, on_new: Callable[[], None] = nothing) -> Lease:
        """Give the lease of the first candidate that works.

        Args:
            on_new: See `Provider.acquire`.

        Raises:
            ServerUnavailableError: No candidate works; the message has the reason of each.
        """
        passed: list[tuple[str, str]] = []
        for candidate in self._candidates:
            if why := candidate.probe():
                passed.append((candidate.name, why))
                continue
            try:
                lease = candidate.acquire(on_new)
            except (ServerError, MissingDependencyError) as error:
                passed.append((candidate.name, str(error)))
                continue
            lease.reason = _reason(candidate.name, passed)
            return lease
        raise ServerUnavailableError(
            "\n".join(
                [
                    'provider = "auto" found no way to a server',
                    *(_indented(name, why) for name, why in passed),
                    'install a PostgreSQL (pip install "elefast[embedded]"), '
                    "or set ELEFAST_ENGINE__URL to a server that runs already",
                ]
            ),
            code="no-server",
        )

    def running(self) -> bool:
        """Whether the server of the first candidate that may be tried runs."""
        first = next((candidate for candidate in self._candidates if not candidate.probe()), None)
        return first is not None and first.running()


def _reason(name: str, passed: Sequence[tuple[str, str]]) -> str:
    if not passed:
        return f"auto: {name} comes first"
    return "auto: " + ", ".join(f"{other} passed over ({why.splitlines()[0]})" for other, why in passed)


def _indented(name: str, why: str) -> str:
    first, *rest = why.splitlines() or [""]
    return "\n".join([f"  {name}: {first}", *(f"    {line}" for line in rest)])
