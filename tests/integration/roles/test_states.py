"""Scenarios, snapshots and changes of databases whose tests connect as a role."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from tests.integration.roles.conftest import Start

WHO = text("select current_user || ' ' || session_user")
COUNT = text("select count(*) from note")


def test_states_with_a_role(start: Start, role: str, tmp_path: Path) -> None:
    """elefast seeds, copies, restores and compares as the server's user; sessions have the role before and after."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "third.sql").write_text("insert into note values (3, 'three')")
    stack = start(scenarios={"third": {"seed": ["third.sql"]}}, scenario="third")
    database = stack.checkout("a test")
    db = database.sync
    with db.as_role(role, settings={"app.tenant": "3"}) as tenant:
        with tenant.session() as session:
            assert session.scalar(text("select body from note")) == "three"
        taken = db.snapshot()
        with db.changes() as changes, tenant.session() as session:
            session.execute(text("update note set body = 'new'"))
            session.commit()
        assert (changes["note"].updated, changes["note"].inserted, changes["note"].deleted) == (0, 1, 1)
        for _ in range(3):  # the first restore is a copy, later ones may be resets
            db.restore(taken)
            with tenant.session() as session:
                assert session.scalar(WHO) == f"{role} {role}"
                assert session.scalar(text("select body from note")) == "three"
                session.execute(text("insert into note values (3, 'four')"))
                session.commit()
    with db.session() as session:
        assert (session.scalar(WHO), session.scalar(COUNT)) == (f"{role} {role}", 0)
    database.release(wait=True)
    assert len(stack.admin().template("third")) == 2
    assert [state.row_security.tables for state in stack.admin().template("third")] == [1, 1]
