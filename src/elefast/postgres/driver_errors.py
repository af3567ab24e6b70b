"""Explains errors of drivers as errors of elefast, with advice.

Some errors pass with time (the server is starting), others do not (a wrong password), and waiting for those would waste
half a minute. They are distinguished by SQLSTATE if the driver has one. A failed connection attempt often has none, so
it is recognised by the English messages of libpq and the server.
"""

from __future__ import annotations

import re
from typing import Any, cast

from sqlalchemy import URL

from elefast.errors import DatabaseNotReadyError, ElefastError, MissingRightsError
from elefast.postgres import libpq_variables
from elefast.postgres.urls import display_url

__all__ = [
    "cannot_terminate",
    "driver_message",
    "missing_createdb",
    "no_connections_left",
    "not_answering",
    "permanent_error",
    "server_ended",
    "sqlstate",
    "strip_tracebacks",
]

# Messages of libpq and psycopg about wrong options.
_WRONG_OPTIONS = re.compile(
    r"invalid (?:connection option|URI query parameter|port number|percent-encoded|\"?\w+\"? value)"
    r"|bad value for|(?:could not|cannot) match \d+|could not parse network address|does not support SSL|weak sslmode"
    r"|definition of service|service file .* not found|certificate file .* does not exist|missing \"=\" after"
)
# Messages of a server without free connections, for drivers that have no SQLSTATE of a failed attempt.
_FULL = re.compile(r"too many (?:clients|connections)|remaining connection slots")


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of an error of any driver, even if SQLAlchemy has wrapped it; empty without one."""
    seen: BaseException | None = error
    while seen is not None:
        for attribute in ("sqlstate", "pgcode"):
            value = getattr(seen, attribute, None)
            if isinstance(value, str):
                return value
        if code := _pg8000(seen).get("C"):
            return code
        seen = getattr(seen, "orig", None) or seen.__cause__
    return ""


def driver_message(error: BaseException) -> str:
    """The message of the driver, on one line."""
    original: BaseException = getattr(error, "orig", None) or error
    text = _pg8000(original).get("M") or str(original)
    return " ".join(text.split()) or type(original).__name__


def _pg8000(error: BaseException) -> dict[str, str]:
    """The fields of an error of pg8000, which raises ``DatabaseError({"C": "28P01", "M": ...})``."""
    fields: Any = error.args[0] if error.args else None
    return cast("dict[str, str]", fields) if isinstance(fields, dict) else {}


def no_connections_left(error: BaseException) -> bool:
    """Whether the server, or the role, has no connection left."""
    return sqlstate(error) == "53300" or bool(_FULL.search(driver_message(error)))


def strip_tracebacks(error: Exception) -> Exception:
    """Remove the tracebacks of `error` and of all exceptions in its chain, and return it.

    Frames of drivers have the password in their variables, which ``pytest --showlocals`` would show.
    """
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and one not in seen:
            seen.append(one)
            one.__traceback__ = None
            left += [one.__cause__, one.__context__]
    return error


def permanent_error(error: BaseException, url: URL) -> ElefastError | None:
    """The error to raise at once, or None if waiting may help.

    Args:
        error: The error of a connection attempt.
        url: The URL of the attempt.
    """
    state, text = sqlstate(error), driver_message(error)
    place = display_url(url)
    if state == "28P01" or "password authentication failed" in text or "no password supplied" in text:
        code, advice = "wrong-password", "Check the user and the password in the URL."
    elif state == "3D000" or re.search(r'database "[^"]*" does not exist', text):
        code, advice = "database-missing", "Name a database that exists in the URL; elefast only uses it to connect."
    elif match := re.search(r'permission denied for database "([^"]*)"', text):
        code = "connect-denied"
        advice = f'Allow the role to connect: GRANT CONNECT ON DATABASE "{match[1]}" TO "{url.username}";'
    elif "no pg_hba.conf entry" in text:
        code = "connect-denied"
        advice = "Allow connections from here in pg_hba.conf, or use another address or sslmode."
    elif "is not permitted to log in" in text:
        code, advice = "connect-denied", f'Allow the role to connect: ALTER ROLE "{url.username}" LOGIN;'
    elif state == "28000" or re.search(r'role "[^"]*" does not exist', text):
        code = "role-missing"
        advice = f'Create the role: CREATE ROLE "{url.username}" LOGIN CREATEDB;'
    elif _WRONG_OPTIONS.search(text):
        code, advice = "url-options", _options_advice(url)
    else:
        return None
    return DatabaseNotReadyError(f"cannot connect to {place}: {text}. {advice}", code=code)


def _options_advice(url: URL) -> str:
    """Advice about an option that libpq refuses, from the URL or from a variable."""
    variables = ", ".join(libpq_variables.variables_in_effect())
    if not variables:
        return "Correct the options of the URL."
    if not url.query:
        return f"Unset the variables that are not meant for this server: {variables}."
    return f"Correct the options of the URL, or unset the variables that are not meant for this server: {variables}."


def not_answering(error: BaseException, url: URL, waited: str) -> DatabaseNotReadyError:
    """The error for a server that accepted no connection within the time `waited`."""
    text = driver_message(error)
    if no_connections_left(error):
        code = "too-many-connections"
        advice = "Raise max_connections, or use fewer connections at once (fewer workers, engines that are disposed)."
    else:
        code, advice = "server-silent", "Check that it runs and that this is its address."
        text = re.sub(r"\s*Is the server running [^?]*\?", "", text)  # libpq's advice is the same
    return DatabaseNotReadyError(f"{display_url(url)} did not answer within {waited}: {text}. {advice}", code=code)


def server_ended(why: str, url: URL) -> DatabaseNotReadyError:
    """The error for a server that elefast has started and that has ended during the run."""
    return DatabaseNotReadyError(
        f"{display_url(url)} has ended in the middle of the run: {why}\nRun again; the next run starts it.",
        code="server-ended",
    )


def missing_createdb(role: str, url: URL) -> MissingRightsError:
    """The error for a role that may not create databases."""
    quoted = '"' + role.replace('"', '""') + '"'
    return MissingRightsError(
        f'role "{role}" may not create databases on {display_url(url)}. '
        f"elefast creates one for each test, so allow it: ALTER ROLE {quoted} CREATEDB;",
        code="no-createdb",
    )


def cannot_terminate(name: str, sessions: str, role: str) -> MissingRightsError:
    """The error for sessions that block the drop or rename of a database and that the role may not end.

    Args:
        name: The name of the database.
        sessions: Descriptions of the sessions, each preceded by a newline.
        role: The current role.
    """
    return MissingRightsError(
        f'database {name} is in use, and role "{role}" may not end the sessions on it:{sessions}\n'
        "End them; the next run drops the database.",
        code="session-rights",
    )
