"""Whether connections are encrypted is for the server and the user to say, with asyncpg as with any other driver."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import Any

import pytest
from sqlalchemy import event, text

import elefast
from tests.robustness.faults.conftest import Open
from tests.robustness.faults.server import Server

ASYNCPG = {"ELEFAST_ENGINE__ASYNC_DRIVER": "asyncpg"}


def connect(stack: elefast.Stack) -> tuple[dict[str, Any], bool]:
    """What asyncpg is told by an engine of the stack's, and whether its connection is encrypted."""
    told: dict[str, Any] = {}

    async def main() -> bool:
        async with await stack.async_server.create_database() as database:

            @event.listens_for(database.engine.sync_engine, "do_connect")
            def note(dialect: object, record: object, cargs: object, cparams: dict[str, Any]) -> None:
                told.update(cparams)

            async with database.engine.connect() as connection:
                question = text("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
                return bool(await connection.scalar(question))

    return told, asyncio.run(main())


def test_what_nobody_offers_is_not_asked_for(open_stack: Open) -> None:
    """asyncpg takes a millisecond for each connection to ask, so it is told that there is no TLS."""
    with open_stack(**ASYNCPG) as stack:
        told, encrypted = connect(stack)
    assert (told["ssl"], encrypted) == (False, False)


def test_what_a_user_says_is_left_alone(open_stack: Open, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the connect arguments, in the URL, or in a variable that asyncpg reads itself."""
    with open_stack(**ASYNCPG, ELEFAST_ENGINE__ASYNC_CONNECT_ARGS='{"ssl": "allow"}') as stack:
        assert connect(stack)[0]["ssl"] == "allow"
    with open_stack(**ASYNCPG, ELEFAST_ENGINE__URL=f"{server.text}?sslmode=prefer") as stack:
        assert connect(stack)[0]["ssl"] == "prefer"
    monkeypatch.setenv("PGSSLMODE", "prefer")
    with open_stack(**ASYNCPG) as stack:
        assert "ssl" not in connect(stack)[0]


def test_a_server_with_tls(open_stack: Open, server: Server) -> None:
    """It is used, as the driver does by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl, which makes the certificate")
    if not server.ask("select 1 from pg_config where name = 'CONFIGURE' and setting ~ 'ssl'"):
        pytest.skip("this PostgreSQL was built without TLS")
    key, certificate = (server.data / name for name in ("server.key", "server.crt"))
    request = (
        f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout {key} -out {certificate}"
    )
    subprocess.run(request.split(), check=True, capture_output=True)
    key.chmod(0o600)
    server.account.give(str(server.data))
    server.restart(ssl="on")
    with open_stack(**ASYNCPG) as stack:
        told, encrypted = connect(stack)
    assert "ssl" not in told
    assert encrypted
