"""Two machines run their shards against one server."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from elefast.postgres.names import Kind, Name
from tests.integration.providers.provider_support import until
from tests.robustness.hosts.conftest import World

NOTICED = 90
"""Seconds until the server has let go of a machine that is gone; 30 are promised, and this machine may be busy."""


def _kinds(names: set[str]) -> dict[Kind, list[str]]:
    found: dict[Kind, list[str]] = {}
    for text in names:
        name = Name.parse(text)
        assert name is not None, text
        found.setdefault(name.kind, []).append(text)
    return found


def _nothing_but_what_stays(names: set[str]) -> None:
    kinds = _kinds(names)
    assert len(kinds.pop(Kind.TEMPLATE)) == 1
    assert len(kinds.pop(Kind.SPARE, [])) <= 4  # pool.size, for the server
    assert kinds == {}


def _runs(names: Iterable[str]) -> set[str]:
    """Whose these databases are."""
    return {name.owner for name in map(Name.parse, names) if name is not None}


@pytest.mark.fault("two machines at once on a server without a template", how="shards in two network namespaces")
def test_shards(world: World) -> None:
    """The template is built once, and each test is alone in a database of its own."""
    machines = (world.one, world.other)
    runs = [machine.pytest("test_notes.py", "-n2", SHARD=str(shard)) for shard, machine in enumerate(machines)]
    said = [run.end() for run in runs]
    assert all("8 passed" in text for text in said)
    assert sorted(machine.read("template-built") for machine in machines) in (["", "north"], ["", "south"])
    assert sorted(_template(text).partition(" ")[0] for text in said) == ["built:", "reused,"]
    tests = [line.split() for machine in machines for line in machine.read("databases").splitlines()]
    assert sorted(int(number) for number, _ in tests) == list(range(16))
    assert not _runs(name for _, name in tests[:8]) & _runs(name for _, name in tests[8:])
    _nothing_but_what_stays(world.elefasts())


@pytest.mark.fault("two machines with the same process ids", how="runs as process 1 of two process namespaces at once")
def test_process_ids(world: World) -> None:
    """The run of one takes nothing of the other's for its own or for that of a dead run, sweeps included."""
    held, theirs = world.one.hold()
    assert set(theirs.values()) == {1}
    mine, ours = world.other.hold()
    assert set(ours.values()) == {1}
    assert theirs.keys() | ours.keys() <= world.elefasts()
    world.other.let_go()
    mine.end()
    assert theirs.keys() <= world.elefasts()
    world.one.let_go()
    held.end()
    _nothing_but_what_stays(world.elefasts())


@pytest.mark.fault("a machine is cut off in mid-run", how="its link is set down, then its processes are killed")
def test_cut_off(world: World) -> None:
    """The next run on another machine sweeps what it left, and takes nothing of a run that lives."""
    held, theirs = world.one.hold("-n2")
    _, lost = world.other.hold("-n2")
    world.other.host.cut()
    assert lost.keys() <= world.elefasts()
    query = f"select application_name, state from pg_stat_activity where client_addr = '{world.other.host.address}'"
    assert world.server.ask(query)  # it knows nothing yet
    assert until(lambda: not world.server.ask(query), NOTICED), world.server.ask(query)
    assert "8 passed" in world.one.pytest("test_notes.py", "-n2", SHARD="0").end()
    there = world.elefasts()
    assert not lost.keys() & there
    assert theirs.keys() <= there
    assert _runs(_kinds(there)[Kind.CLONE]) == _runs(theirs)
    world.one.let_go()
    held.end()
    _nothing_but_what_stays(world.elefasts())

    world.other.host.join()
    assert "8 passed" in world.other.pytest("test_notes.py", "-n2", SHARD="1").end()
    _nothing_but_what_stays(world.elefasts())


def _template(text: str) -> str:
    found = re.search(r"template +(.*)", text)
    assert found, text
    return found[1]
