"""A Hypothesis state machine whose steps write, take snapshots and restore them, beside a model in plain Python.

`TEST_SNAPSHOT_EXAMPLES=200` is the long form.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

import elefast

EXAMPLES = int(os.environ.get("TEST_SNAPSHOT_EXAMPLES", "10"))

State = tuple[dict[int, str], dict[str, str], bool, int]


class Machine(RuleBasedStateMachine):
    """Random steps; after each the database is what the model says."""

    database: elefast.Database
    start: elefast.Snapshot

    snapshots = Bundle("snapshots")

    @initialize(target=snapshots)
    def begin(self) -> tuple[elefast.Snapshot, State]:
        """Every example begins with the state of the first one."""
        self.database.restore(self.start)
        self.items: dict[int, str] = {}
        self.countries = {"de": "Germany", "at": "Austria"}
        self.has_table = False
        self.last = 0
        return self.start, self._state()

    def _state(self) -> State:
        return dict(self.items), dict(self.countries), self.has_table, self.last

    def _execute(self, statement: str, **parameters: object) -> None:
        with self.database.engine.begin() as connection:
            connection.execute(text(statement), parameters)

    @rule(body=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5))
    def insert(self, body: str) -> None:
        """Insert into the table that is empty in the template."""
        self._execute("insert into item (body) values (:body)", body=body)
        self.last += 1
        self.items[self.last] = body

    @rule()
    def roll_back(self) -> None:
        """A transaction that is rolled back still uses a value of the sequence."""
        with self.database.engine.connect() as connection:
            connection.execute(text("insert into item (body) values ('gone')"))
            connection.rollback()
        self.last += 1

    @precondition(lambda self: self.items)
    @rule()
    def delete(self) -> None:
        """Delete from it."""
        number = min(self.items)
        self._execute("delete from item where id = :id", id=number)
        del self.items[number]

    @rule(name=st.sampled_from(["a", "b"]))
    def update(self, name: str) -> None:
        """Write to the table that has rows in the template."""
        self._execute("update country set name = :name where code = 'de'", name=name)
        self.countries["de"] = name

    @precondition(lambda self: not self.has_table)
    @rule()
    def create_table(self) -> None:
        """Change the catalogs."""
        self._execute("create table another (id int)")
        self.has_table = True

    @rule(target=snapshots)
    def take(self) -> tuple[elefast.Snapshot, State]:
        """Take a snapshot."""
        return self.database.snapshot(), self._state()

    @rule(chosen=snapshots)
    def restore(self, chosen: tuple[elefast.Snapshot, State]) -> None:
        """Restore an earlier state, or a later one."""
        snapshot, (items, countries, has_table, last) = chosen
        self.database.restore(snapshot)
        self.items, self.countries = dict(items), dict(countries)
        self.has_table, self.last = has_table, last

    @rule(chosen=snapshots)
    def copy(self, chosen: tuple[elefast.Snapshot, State]) -> None:
        """Another database from the snapshot is equal to it, and is not the one that goes on."""
        snapshot, state = chosen
        with snapshot.create_database() as another:
            assert _read(another) == state
            with another.engine.begin() as connection:
                connection.execute(text("delete from country"))

    @invariant()
    def is_equal(self) -> None:
        """The database is what the model says."""
        if hasattr(self, "items"):
            assert _read(self.database) == self._state()


def _read(database: elefast.Database) -> State:
    with database.engine.connect() as connection:
        items = {row.id: row.body for row in connection.execute(text("select id, body from item"))}
        countries = {row.code: row.name for row in connection.execute(text("select code, name from country"))}
        has_table = connection.scalar(text("select to_regclass('another') is not null"))
        last, called = connection.execute(text("select last_value, is_called from item_id_seq")).one()
    return items, countries, bool(has_table), last if called else 0


@pytest.mark.filterwarnings("error")
def test_states(stack: elefast.Stack) -> None:
    """Whatever the steps are, a restore brings the state of its snapshot, and no other database changes."""
    with stack.server.create_database() as database:

        class Bound(Machine):
            pass

        Bound.database, Bound.start = database, database.snapshot()
        run_state_machine_as_test(
            Bound,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=20,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
        assert stack.service.snapshots.resets > 0
