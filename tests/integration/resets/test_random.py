"""Random work in one database after the other: whatever comes back cannot be told from a new copy."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress

import psycopg

from tests.guarantees.isolation.project.dirt import DIRT
from tests.integration.resets.conftest import Bench
from tests.integration.resets.test_restore import COMES_BACK, GOES

ROUNDS = int(os.environ.get("TEST_FUZZ_ROUNDS", "60"))
SEED = int(os.environ.get("TEST_FUZZ_SEED", random.SystemRandom().randrange(2**32)))

TABLES = ("person", "letter", "visit", "event", "event_old", "dog", "audit", "secret", "country", "ruled", "animal")
VALUES = {
    "person": "(name) SELECT md5(random()::text) FROM generate_series(1, {n})",
    "letter": "(sender, body) SELECT 1, left(repeat(md5(random()::text), 80), {n} * 40) FROM generate_series(1, 3)",
    "visit": "(at) SELECT now() FROM generate_series(1, {n})",
    "event": "SELECT date '2019-06-01' + g * 30, 'x' FROM generate_series(1, {n}) g",
    "event_old": "VALUES ('2001-01-01', 'x')",
    "dog": "VALUES ('rex', {n})",
    "audit": "VALUES (repeat('x', {n}))",
    "secret": "VALUES ('me')",
    "country": "SELECT 'c' || random(), 'x' FROM generate_series(1, {n})",
    "ruled": "VALUES ({n})",
    "animal": "VALUES ('cat')",
}
COLUMNS = {"person": "name", "letter": "body", "audit": "what", "dog": "name", "animal": "name", "secret": "owner"}
SEQUENCES = ("ticket", "moved", "used", "person_id_seq", "letter_id_seq", "visit_id_seq")


class Worker:
    """Does random things to a database, of which PostgreSQL may refuse some.

    Args:
        chance: Where the randomness comes from.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.done: list[str] = []

    def __call__(self, connection: psycopg.Connection) -> None:
        with psycopg.connect(connection.info.dsn, password=connection.info.password, autocommit=True) as second:
            for _ in range(self.chance.randrange(8)):
                one = self.chance.choice((connection, connection, second))
                self._send(one, self._statement())
                if self.chance.random() < 0.3:
                    with suppress(psycopg.Error):  # a deferred constraint
                        self.chance.choice((one.commit, one.rollback))()
            with suppress(psycopg.Error):
                connection.commit()

    def _send(self, connection: psycopg.Connection, statement: str) -> None:
        self.done.append(statement)
        with suppress(psycopg.Error):
            if not connection.autocommit and self.chance.random() < 0.5:
                with connection.transaction(force_rollback=self.chance.random() < 0.5):
                    connection.execute(statement.encode())
                return
            # Who waits for the other connection waits for ever.
            connection.execute("SET lock_timeout = 50")
            connection.execute(statement.encode())
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
            connection.rollback()

    def _statement(self) -> str:
        make: Callable[[], str] = self.chance.choices(
            (self._insert, self._update, self._delete, self._sequence, self._known), (8, 3, 2, 3, 1)
        )[0]
        return make()

    def _insert(self) -> str:
        table = self.chance.choice(TABLES)
        return f"INSERT INTO {table} {VALUES[table].format(n=self.chance.choice((1, 2, 7, 60)))}"

    def _update(self) -> str:
        table = self.chance.choice(list(COLUMNS))
        return f"UPDATE {table} SET {COLUMNS[table]} = {COLUMNS[table]} || 'x'"

    def _delete(self) -> str:
        return f"DELETE FROM {self.chance.choice(TABLES)} WHERE random() < {self.chance.choice((0.3, 2))}"

    def _sequence(self) -> str:
        sequence = self.chance.choice(SEQUENCES)
        if self.chance.random() < 0.5:
            return f"SELECT nextval('{sequence}') FROM generate_series(1, {self.chance.choice((1, 33))})"
        return f"SELECT setval('{sequence}', {self.chance.randrange(1, 99)}, {self.chance.choice(('true', 'false'))})"

    def _known(self) -> str:
        everything = [*COMES_BACK.values(), *GOES.values(), *(";".join(dirt.statements) for dirt in DIRT)]
        return self.chance.choice(everything) or "SELECT 1"


def test_random_work(bench: Bench) -> None:
    """After any work at all the next database is as new, whether it is the same one or another."""
    print(f"TEST_FUZZ_SEED={SEED} TEST_FUZZ_ROUNDS={ROUNDS}")
    worker = Worker(random.Random(SEED))
    back = 0
    for number in range(ROUNDS):
        worker.done.clear()
        came_back = bench.use(worker)
        back += came_back
        print(number, "came back" if came_back else "went", *worker.done, sep="\n  ")
    bench.use(lambda connection: None)
    # Else the test would say nothing of those that come back, or nothing of those that must not.
    assert ROUNDS < 30 or ROUNDS / 10 < back < ROUNDS
