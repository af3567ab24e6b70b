"""Shared by the commands that work on a server: opening the stack, and the words for its databases."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elefast.databases.inventory import Item
    from elefast.stack import Stack
    from elefast.templates.store import State, Template

__all__ = ["configured", "count", "decisive", "decisive_build", "running", "shown_size", "template_in_words"]


@contextmanager
def configured(arguments: argparse.Namespace) -> Generator[Stack]:
    """The stack of this directory, with the profile of the command line. This alone starts nothing.

    Raises:
        ConfigurationError: There is no configuration, or it is wrong.
    """
    from elefast.factory import from_config

    with from_config(profile=arguments.profile) as stack:
        yield stack


@contextmanager
def running(arguments: argparse.Namespace) -> Generator[Stack]:
    """The same, if its server runs already.

    Raises:
        ServerUnavailableError: It does not run.
    """
    from elefast.errors import ServerUnavailableError

    with configured(arguments) as stack:
        if not stack.server_runs():
            raise ServerUnavailableError(
                f"the server of {stack.project} does not run, and would end with this command. "
                "Start it first: elefast up",
                code="server-not-running",
            )
        yield stack


def count(items: Iterable[Item]) -> dict[str, int]:
    """The number of databases of each kind, by the word for the kind."""
    from elefast.databases.inventory import KINDS

    found: dict[str, int] = {}
    for item in items:
        found[KINDS[item.kind]] = found.get(KINDS[item.kind], 0) + 1
    return found


def decisive(states: Sequence[State]) -> State:
    """The layer that tells whether a template fits: the lowest one that would be built, else the uppermost."""
    return next((state for state in states if not state.name), states[-1])


def decisive_build(layers: Sequence[Template]) -> Template:
    """The layer that tells why a template was built: the lowest one that was, else the uppermost."""
    return next((layer for layer in layers if layer.built), layers[-1])


def template_in_words(states: Sequence[State]) -> str:
    """Whether a run would reuse its template or build it, and why."""
    if not states:
        return "none, databases are empty"
    state = decisive(states)
    return state.reason if state.name else f"would be {state.reason}"


def shown_size(size: int) -> str:
    """A number of bytes as text."""
    return "?" if size < 0 else f"{size / 1024 / 1024:.1f} MB"
