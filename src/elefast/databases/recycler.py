"""What becomes of a database that a test has had: it is put back or dropped, and what was left on it is told.

It knows no threads, and not who has which database next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from elefast.databases.manager import Control
from elefast.databases.preconnect import Ahead
from elefast.databases.resetter import Restorer
from elefast.postgres.connections.maintenance_session import GRACE, Session
from elefast.postgres.drop_blockers import Left, Uncounted
from elefast.templates.store import Template

__all__ = ["Returns"]

_log = logging.getLogger("elefast")


class Returns:
    """Sees to the databases of one control that tests have given back.

    Args:
        control: Drops them.
        on_leak: Told of the test whose sessions had to be ended, and of these, mostly in a thread of the pool.
        on_stuck: Told of the test whose database the server does not drop, and of that database and the cause.
        on_return: Told of each database that was given back before anything is done to it, with a session to look
            around.
        restorer: Puts databases back as they were; None where each goes after its test.
    """

    def __init__(
        self,
        control: Control,
        *,
        on_leak: Callable[[str, Sequence[Left]], None] = lambda test, leaked: None,
        on_stuck: Callable[[str, str], None] = lambda test, text: None,
        on_return: Callable[[Session], None] = lambda session: None,
        restorer: Restorer | None = None,
    ) -> None:
        self._control = control
        self._on_leak = on_leak
        self._on_stuck = on_stuck
        self._on_return = on_return
        self._restorer = restorer
        self.drops = True
        """Whether what is not put back is dropped. Without, it is only looked at for what was left open on it."""

    @property
    def may_come_back(self) -> bool:
        """Whether any database is put back at all."""
        return self._restorer is not None

    def note(self, name: str, template: Template | None, session: Session) -> None:
        """Database `name` has just been made as a copy of `template`, and nobody has had it."""
        if self._restorer is not None:
            self._restorer.note(name, template, session)

    def forget(self, name: str) -> None:
        """Somebody else takes care of database `name`."""
        if self._restorer is not None:
            self._restorer.forget(name)

    def see_to(self, name: str, test: str, session: Session, *, wanted: bool, ahead: Ahead | None) -> str:
        """Put back, drop or look at a database, to which its test closes its connections by now.

        Args:
            name: Its name.
            test: Who has had it.
            session: To do it through.
            wanted: Whether anybody needs it, if it can be put back.
            ahead: Connects to it for who has it next; None where nobody wants that.

        Returns:
            The name that it has when it is as its template made it; empty where it is not, or is gone.
        """
        try:
            self._on_return(session)
            leaked: Sequence[Left] = session.lingering(name)
            if self._restorer is not None and wanted and not leaked:
                trusted = not self._restorer.deceived
                name, is_back = self._restorer.restore(name, session, ahead)
                if is_back:
                    return name
                if trusted and self._restorer.deceived:
                    self._on_leak(test, [Uncounted(name)])
            self.forget(name)
            if self.drops:
                leaked = self._control.drop(name, session, grace=0 if leaked else GRACE)
            if leaked:
                self._on_leak(test, leaked)
        except Exception as error:
            if not session.is_open:
                raise
            # The server is well: it is this database alone, such as one with a prepared transaction.
            _log.warning("%s of %s was not dropped: %s", name, test or "no test", error)
            self._on_stuck(test, f"{name}: {error}")
        return ""
