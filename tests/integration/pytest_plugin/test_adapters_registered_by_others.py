"""Adapters of psycopg that a test registers for all connections: they reach no later test by a connection ahead."""

from __future__ import annotations

from .conftest import Project

TESTS = """
import psycopg, pytest
from psycopg.types.numeric import FloatLoader, NumericLoader
from sqlalchemy import text

SEEN = text("SELECT 1.5")

@pytest.fixture
def registered(): psycopg.adapters.register_loader("numeric", FloatLoader)

def kind(db):
    with db.engine.connect() as connection:
        return type(connection.scalar(SEEN)).__name__

@pytest.mark.parametrize("number", range(3))
def test_1_before(db, number): assert kind(db) == "Decimal"

def test_2_registers_for_its_own(registered, db): assert kind(db) == "float"

@pytest.mark.parametrize("number", range(3))
def test_3_still_registered(db, number): assert kind(db) == "float"

def test_4_undoes(db): psycopg.adapters.register_loader("numeric", NumericLoader)

@pytest.mark.parametrize("number", range(6))
def test_5_after(db, number): assert kind(db) == "Decimal"
"""


def test_adapters_for_all_connections(project: Project) -> None:
    """Each test has those that are registered when it gets its database, whatever was when that was connected."""
    project.configure('migrator = "none"')
    project.tests(TESTS)
    project.run_apart("-p", "no:randomly").assert_outcomes(passed=14)
