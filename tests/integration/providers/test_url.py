"""Leases over a server that somebody else runs."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from elefast.errors import ConfigurationError, DatabaseNotReadyError
from elefast.postgres.connections.connectors import connectors_to
from elefast.postgres.connections.maintenance_session import MaintenanceSession
from elefast.postgres.urls import display_url, with_driver, without_secrets
from elefast.providers import UrlProvider
from elefast.providers.url import maintenance_url
from tests.integration.providers.provider_support import dsn, provider


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u:p@localhost:5432/app", "postgresql+psycopg://u:p@localhost:5432/app"),
        ("postgres://u:p@localhost/app", "postgresql+psycopg://u:p@localhost/app"),
        ("postgresql+asyncpg://localhost/app?ssl=require", "postgresql+psycopg://localhost/app?sslmode=require"),
        ("postgresql+asyncpg://localhost/app?ssl=true", "postgresql+psycopg://localhost/app?sslmode=require"),
        (
            "postgresql+asyncpg://localhost/app?prepared_statement_cache_size=0&timeout=2.6",
            "postgresql+psycopg://localhost/app?connect_timeout=3",
        ),
        (
            "postgresql+pg8000://u@/app?unix_sock=/run/pg/.s.PGSQL.5433",
            "postgresql+psycopg://u@:5433/app?host=%2Frun%2Fpg",
        ),
        (
            "postgresql+psycopg2://u@/app?host=/run/pg&application_name=x",
            "postgresql+psycopg://u@/app?application_name=x&host=%2Frun%2Fpg",
        ),
        ("postgresql+asyncpg:///app?host=h1:1&host=h2:2", "postgresql+psycopg:///app?host=h1%3A1&host=h2%3A2"),
        ("postgresql://u:p%40ss@localhost", "postgresql+psycopg://u:p%40ss@localhost/postgres"),
        ("postgresql://localhost?dbname=app", "postgresql+psycopg://localhost/app"),
        ("postgresql://localhost/app?user=u&password=p%40", "postgresql+psycopg://u:p%40@localhost/app"),
        ("postgresql+asyncpg://localhost/app?timeout=inf", "postgresql+psycopg://localhost/app?connect_timeout=inf"),
        (
            "postgresql+pg8000://u@/app?unix_sock=/run/pg/.s.PGSQL.²",
            "postgresql+psycopg://u@/app?host=%2Frun%2Fpg",
        ),
    ],
)
def test_any_driver_becomes_psycopg(given: str, expected: str) -> None:
    """Driver and its own options are translated, everything else stays."""
    assert maintenance_url(given).render_as_string(hide_password=False) == expected


@pytest.mark.parametrize("given", ["", "nonsense", "mysql://localhost/app", "postgresql://localhost:port/app"])
def test_what_is_no_postgresql_url_is_an_error(given: str) -> None:
    """The error names the key."""
    with pytest.raises(ConfigurationError, match=r"engine\.url"):
        UrlProvider(given).acquire()


def test_a_wrong_url_does_not_show_its_password() -> None:
    """Whatever is wrong with it."""
    with pytest.raises(ConfigurationError) as caught:
        UrlProvider("postgresql://u:secret@localhost:port/app").acquire()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("option", ["password", "sslpassword", "oauth_client_secret"])
def test_a_password_among_the_options_is_not_shown(option: str) -> None:
    """Not by the lease, nor by what is left of a URL where no password may be."""
    url = f"postgresql://u@127.0.0.1:1/app?{option}=sec%26ret&sslmode=disable"
    lease = UrlProvider(url).acquire()
    for text in (lease.description, repr(lease), display_url(make_url(url)), str(without_secrets(lease.url))):
        assert "sec" not in text.replace("oauth_client_secret", "").replace("password", "")
        assert "sslmode=disable" in text
    assert f"{option}=***" in display_url(make_url(url))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql:///x?host=localhost", "postgresql+pg8000://localhost:5432/x"),
        ("postgresql:///x?host=localhost:5433&host=other:5434", "postgresql+pg8000://localhost:5433/x"),
        ("postgresql:///x?host=localhost,other&port=5433,5434", "postgresql+pg8000://localhost:5433/x"),
        ("postgresql:///x?host=/tmp&port=5433,5434", "postgresql+pg8000:///x?unix_sock=%2Ftmp%2F.s.PGSQL.5433"),
    ],
)
def test_a_host_among_the_options_for_a_driver_that_knows_none(given: str, expected: str) -> None:
    """A directory becomes the file of a socket, and a name that of the host; of several the first one."""
    made = with_driver(maintenance_url(given), "postgresql+pg8000")
    assert made.render_as_string(hide_password=False) == expected


@pytest.mark.parametrize(
    "options",
    [
        "sslmode=nonsense",
        "host=127.0.0.1:1&hostaddr=127.0.0.1,127.0.0.2",
        "hostaddr=nonsense",
        "connect_timeout=nonsense",
        "ssl_min_protocol_version=nonsense",
        "sslmode=disable&sslnegotiation=direct",
        "target_session_attrs=nonsense",
        "service=nonsense",
    ],
)
def test_options_that_no_server_will_make_right(options: str) -> None:
    """They are told at once, and not after half a minute of patience."""
    url = maintenance_url(f"postgresql://u@127.0.0.1:1/x?{options}")
    session = MaintenanceSession(url, connectors_to(url))
    with pytest.raises(DatabaseNotReadyError) as caught:
        session.ensure_ready(timeout=600)
    assert caught.value.code == "url-options"


def test_nothing_is_connected_and_nothing_is_owned() -> None:
    """A lease over a server that is not there costs nothing and promises nothing."""
    lease = UrlProvider("postgresql+asyncpg://u:secret@127.0.0.1:1/app", reason="why").acquire()
    lease.hold()
    lease.release()
    lease.release()
    assert (lease.provider, lease.reason, lease.owned, lease.ephemeral) == ("url", "why", False, False)
    assert "secret" not in lease.description


def test_a_unix_socket_works(root: Path, bin_dir: str) -> None:
    """A URL by socket directory reaches the server."""
    local = provider(root, bin_dir).acquire()
    by_socket = local.url.set(host=None).update_query_dict({"host": local.socket_dir})
    lease = UrlProvider(by_socket.set(drivername="postgresql+asyncpg")).acquire()
    psycopg.connect(dsn(lease)).close()
    local.release()
