"""Lets code of the project connect to the template that is being built, and refuses all other connections.

Without the guard, an env.py that reads its URL from the wrong place would migrate the developer's own database.
The connect functions of drivers are patched, because they know the database. An audit hook sees the sockets of all
other connections. None of this can be removed again, so it needs a process that does nothing else.
"""

from __future__ import annotations

import importlib.util
import inspect
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from sqlalchemy import URL, Engine, event

from elefast.postgres.urls import host_of, libpq_url, port_of

__all__ = ["ConnectionGuard", "PatchOnImport", "RefusedConnectionError"]

REMEDY = (
    "While a template is built, only the template can be connected to. Let the code read its URL from "
    '`sqlalchemy.url` (config.get_main_option), use config.attributes["connection"], or name the environment '
    "variable that it reads in `alembic.env` or `export_env`; variables with parts of the URL are written as "
    '"NAME={host}", with port, user, password and database alike'
)

# Drivers with a patched connect function; the dialects of SQLAlchemy for them need no further check.
_CHECKED_DRIVERS = frozenset({"psycopg", "psycopg_async", "psycopg2", "asyncpg", "pg8000"})


class RefusedConnectionError(ConnectionRefusedError):
    """Code that builds a template tried to connect to another database."""


class ConnectionGuard:
    """Decides which connections are allowed, and lists the refused ones in `refused`.

    Args:
        url: The template.
    """

    def __init__(self, url: URL) -> None:
        plain = libpq_url(url)
        self._host = host_of(plain)
        self._port = port_of(plain)
        self._database = plain.database
        self.refused: list[str] = []

    def install(self) -> None:
        """Guard this process from now on, including drivers that are imported later."""
        event.listen(Engine, "do_connect", self._on_do_connect)
        patches: dict[str, Callable[[ModuleType], None]] = {
            "psycopg": self._patch_psycopg,
            "psycopg2": self._patch_psycopg2,
            "asyncpg.connect_utils": self._patch_asyncpg,
            "pg8000.core": self._patch_pg8000,
        }
        for name in list(patches):
            if (module := sys.modules.get(name)) is not None:
                patches.pop(name)(module)
        sys.meta_path.insert(0, PatchOnImport(patches))
        sys.addaudithook(self._audit)

    def check(self, host: str | None, port: object, database: str | None, *, via: str) -> None:
        """Refuse a connection that does not lead to the template.

        Args:
            host: Host name, address or directory of the socket; several are separated by commas.
            port: Port, or several like `host`.
            database: Database; None where it is unknown.
            via: The driver that connects, for the message.

        Raises:
            RefusedConnectionError: It leads elsewhere.
        """
        hosts = (host or "").split(",")
        ports = str(port or 5432).split(",")
        if len(ports) == 1:
            ports *= len(hosts)
        for one_host, one_port in zip(hosts, ports, strict=False):
            if not self._is_template(one_host, one_port or "5432") or database not in (None, self._database):
                self._refuse(via, one_host, one_port, database)

    def _refuse(self, via: str, host: str, port: object, database: str | None) -> None:
        place = f"{host}:{port}" if port else host
        where = " on ".join(part for part in (f'database "{database}"' if database else "", place) if part)
        text = f"{via} wanted to connect to {where}"
        if text not in self.refused:
            self.refused.append(text)
        raise RefusedConnectionError(
            f'elefast refused a connection: {text}, which is not the template "{self._database}" on '
            f"{self._host}:{self._port}. {REMEDY}."
        )

    def _is_template(self, host: str, port: str) -> bool:
        if port != str(self._port):
            return False
        own = self._host
        if host == own:
            return True
        if _is_directory(host):
            # A socket and a loopback address with the same port are taken for the same server. `check` compares
            # the database as well, and no other server has one with the template's unique name.
            return own is None or _is_directory(own) or _is_loopback(own)
        if own is None or _is_directory(own):
            return _is_loopback(host)
        return (_is_loopback(host) and _is_loopback(own)) or bool(_addresses(host) & _addresses(own))

    # -- SQLAlchemy: all dialects without a patched driver ----------------------------------------------------

    def _on_do_connect(self, dialect: Any, record: Any, cargs: Sequence[Any], cparams: Mapping[str, Any]) -> None:
        if dialect.name == "postgresql" and dialect.driver in _CHECKED_DRIVERS:
            return
        database = cparams.get("database") or cparams.get("dbname") or (cargs[0] if cargs else "")
        if dialect.name == "sqlite" and str(database) in ("", ":memory:"):
            return
        if dialect.name == "postgresql":
            self.check(cparams.get("host"), cparams.get("port"), str(database), via=f"SQLAlchemy ({dialect.driver})")
            return
        self._refuse(f"SQLAlchemy ({dialect.name})", str(cparams.get("host", "")), "", str(database))

    # -- drivers ---------------------------------------------------------------------------------------------

    def _patch_psycopg(self, module: Any) -> None:
        def parameters(conninfo: str, given: Mapping[str, Any]) -> dict[str, Any]:
            to_dict: Any = module.conninfo.conninfo_to_dict
            known = {
                option.keyword.decode(): (option.val or b"").decode() or None
                for option in module.pq.Conninfo.get_defaults()
            }
            written = {key: value for key, value in given.items() if key in known}
            return {**known, **to_dict(conninfo, **written)}

        def guarded(method: Any) -> Any:
            function: Any = method.__func__

            def connect(cls: Any, conninfo: str = "", **kwargs: Any) -> Any:
                self._check_libpq(parameters(conninfo, kwargs), via="psycopg")
                return function(cls, conninfo, **kwargs)

            wrapped: Any = wraps(function)(connect)
            return classmethod(wrapped)

        module.Connection.connect = guarded(module.Connection.connect)
        module.AsyncConnection.connect = guarded(module.AsyncConnection.connect)
        module.connect = module.Connection.connect

    def _patch_psycopg2(self, module: Any) -> None:
        original = module._connect

        @wraps(original)
        def connect(dsn: str, *args: Any, **kwargs: Any) -> Any:
            self._check_libpq(module.extensions.parse_dsn(dsn), via="psycopg2")
            return original(dsn, *args, **kwargs)

        module._connect = connect

    def _check_libpq(self, given: Mapping[str, Any], *, via: str) -> None:
        def value(option: str, variable: str) -> Any:
            return given.get(option) or os.environ.get(variable)

        database = value("dbname", "PGDATABASE") or value("user", "PGUSER")
        if service := value("service", "PGSERVICE"):
            self._refuse(via, f"service={service}", "", database)
        # libpq connects to an address rather than to a name, whether it is an argument or a variable.
        host = value("hostaddr", "PGHOSTADDR") or value("host", "PGHOST")
        self.check(host, value("port", "PGPORT"), database, via=via)

    def _patch_asyncpg(self, module: Any) -> None:
        # This function merges arguments, DSN, environment and service file.
        original = module._parse_connect_arguments

        @wraps(original)
        def parse(**kwargs: Any) -> Any:
            result = original(**kwargs)
            addresses, parameters = result[0], result[1]
            for address in addresses:
                host, port = _of_socket(address) if isinstance(address, str) else address[:2]
                self.check(host, port, parameters.database or parameters.user, via="asyncpg")
            return result

        module._parse_connect_arguments = parse

    def _patch_pg8000(self, module: Any) -> None:
        original = module.CoreConnection.__init__
        signature = inspect.signature(original)

        @wraps(original)
        def init(*args: Any, **kwargs: Any) -> None:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            host, port = given.get("host"), given.get("port")
            if given.get("unix_sock"):
                host, port = _of_socket(str(given["unix_sock"]))
            self.check(host, port, given.get("database") or given.get("user"), via="pg8000")
            original(*args, **kwargs)

        module.CoreConnection.__init__ = init

    # -- everything else -------------------------------------------------------------------------------------

    def _audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name != "socket.connect":
            return
        connection, address = arguments
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            if connection.type & socket.SOCK_DGRAM and not connection.type & socket.SOCK_STREAM:
                return  # UDP: to find out one's own address, or to ask a name server
            if not _is_emulated_pair():
                self.check(str(address[0]), address[1], None, via="a socket")
        elif connection.family == getattr(socket, "AF_UNIX", None):
            path = os.fsdecode(address)
            if not _is_between_processes(path):
                self.check(*_of_socket(path), None, via="a socket")


class PatchOnImport(MetaPathFinder):
    """Patches modules as soon as they have been imported.

    Args:
        patches: The function for each module, by the name of the module. It is called once.
    """

    def __init__(self, patches: dict[str, Callable[[ModuleType], None]]) -> None:
        self._patches = patches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        patch = self._patches.pop(fullname, None)
        if patch is None:
            return None
        # The name is no longer in `_patches`, so this call asks the other finders only.
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            self._patches[fullname] = patch
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _is_directory(host: str) -> bool:
    return not host or host.startswith(("/", "@"))


@cache
def _is_loopback(host: str) -> bool:
    return any(ipaddress.ip_address(address).is_loopback for address in _addresses(host))


@cache
def _addresses(host: str) -> frozenset[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset(str(entry[4][0]).partition("%")[0] for entry in found)


def _of_socket(path: str) -> tuple[str, str]:
    """Directory and port of a PostgreSQL socket; of any other socket the whole path, and port 0."""
    match = re.fullmatch(r"(.*)/\.s\.PGSQL\.(\d+)", path)
    return (match[1] or "/", match[2]) if match else (path, "0")


def _is_between_processes(path: str) -> bool:
    """Whether a socket is one of multiprocessing's."""
    return path.startswith("\0listener-") or "/pymp-" in path


def _is_emulated_pair() -> bool:
    """Whether the connection is made by socketpair() on Windows, which connects two sockets of the process."""
    if sys.platform != "win32":
        return False
    frame = sys._getframe(2)
    return "socketpair" in frame.f_code.co_name
