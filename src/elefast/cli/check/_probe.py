"""What a probe is, what it finds, and how all of them are run: each by itself, none for longer than its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from elefast.errors import ElefastError

__all__ = ["Probe", "ProbeReport", "bad", "good", "not_checked", "run_all", "warning"]

Status = Literal["ok", "warning", "failed", "skipped"]

SECONDS = 20.0
"""So long a probe may take; a daemon that hangs must not hang the check."""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a probe found.

    Args:
        probe: Its name.
        status: ``ok``, ``warning``, ``failed``, or ``skipped`` where there was nothing to look at.
        fact: What is so, in a line or more.
        remedy: What to do; empty where nothing is to be done.
    """

    probe: str
    status: Status
    fact: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


ProbeResult = tuple[Status, str, str]


def good(fact: str) -> ProbeResult:
    """All is well."""
    return "ok", fact, ""


def warning(fact: str, remedy: str) -> ProbeResult:
    """It works, and could be better."""
    return "warning", fact, remedy


def bad(fact: str, remedy: str) -> ProbeResult:
    """Tests will fail because of it."""
    return "failed", fact, remedy


def not_checked(why: str) -> ProbeResult:
    """There was nothing to look at."""
    return "skipped", why, ""


@dataclass(frozen=True)
class Probe:
    """One thing to look at.

    Args:
        name: What it is called.
        look: Looks, and says what it found.
        needs: Names of probes that must not have failed.
    """

    name: str
    look: Callable[[], ProbeResult]
    needs: Sequence[str] = field(default=())


def run_all(probes: Sequence[Probe], seconds: float = SECONDS) -> Iterator[ProbeReport]:
    """What each probe found, as soon as it has; one that fails stops none but those that need it."""
    unfit: set[str] = set()
    for probe in probes:
        missing = [name for name in probe.needs if name in unfit]
        if missing:
            found = not_checked(f"not checked, since it needs: {', '.join(missing)}")
        else:
            found = _in_time(probe, seconds)
        if found[0] in ("failed", "skipped"):
            unfit.add(probe.name)
        yield ProbeReport(probe.name, *found)


def _in_time(probe: Probe, seconds: float) -> ProbeResult:
    answer: list[ProbeResult] = []

    def look() -> None:
        answer.append(_found(probe))

    # A thread that hangs in a system call cannot be ended; as a daemon it does not outlive the command.
    thread = threading.Thread(target=look, name=f"elefast-check-{probe.name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if answer:
        return answer[0]
    return bad(f"no answer within {seconds:g} s", "see what it hangs in: elefast check --traceback, then Ctrl-C")


def _found(probe: Probe) -> ProbeResult:
    try:
        return probe.look()
    except ElefastError as error:
        first, *rest = str(error).splitlines()
        *notes, more = getattr(error, "__notes__", ()) or [""]
        return bad("\n".join([first, *rest, *notes]), more.removeprefix("more: "))
    except Exception as error:
        return bad(f"{type(error).__name__}: {error}", "this is a mistake in elefast; --traceback shows where")
