"""Several transactions inside of one: that of each session is a savepoint, as long as these can be told apart.

PostgreSQL's savepoints lie inside each other, and those who use them do not know of each other. So that nobody
undoes or keeps what somebody else wrote, this keeps account of who wrote since when, and refuses what a savepoint
cannot do. It knows SQL as text, and neither connections nor tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache

from elefast.errors import RefusedError

__all__ = ["OWN_DATABASE", "SavepointStack", "SessionScope"]

OWN_DATABASE = 'give the test a database of its own: @pytest.mark.elefast(isolation="database")'

_READS = re.compile(r"[\s(]*(?:select|values|table|show|explain|with|fetch)\b", re.IGNORECASE)
# "FOR UPDATE" and a column that is called so count as well; it only makes the account more cautious.
_CHANGES = re.compile(r"\b(?:insert|update|delete|merge|into|analyze)\b", re.IGNORECASE)
_NESTED = re.compile(r"\s*(savepoint|release\s+savepoint|rollback\s+to\s+savepoint)\s+(\S+)\s*\Z", re.IGNORECASE)


class _Kind(Enum):
    READ = "read"
    CHANGE = "change"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    UNDO = "rollback"


@lru_cache(maxsize=1024)
def _kind(statement: str) -> tuple[_Kind, str]:
    """What a statement does to the account, and the savepoint that it names; in doubt it changes something."""
    if nested := _NESTED.match(statement):
        return _Kind(nested[1].split()[0].lower()), nested[2]
    if _READS.match(statement) and not _CHANGES.search(statement):
        return _Kind.READ, ""
    return _Kind.CHANGE, ""


class SessionScope:
    """What somebody takes for a transaction of its own."""

    __slots__ = ("failed", "marks", "others", "savepoint", "wrote")

    def __init__(self) -> None:
        self.savepoint = ""
        self.clear()

    def clear(self) -> None:
        """Forget what was done in it."""
        self.wrote = False
        self.failed = False
        """Whether its last statement was refused by the server, which refuses all further ones until a rollback."""
        self.others = 0
        """How often somebody else wrote inside of it."""
        self.marks: dict[str, int] = {}
        """Its own savepoints, with `others` as it was then."""


class SavepointStack:
    """The frames of one transaction.

    A frame that only read may be taken for one that begins now, at any time: it has nothing to undo.

    Args:
        send: Sends SQL to the server.
        opening: SQL that comes before everything else.
    """

    def __init__(self, send: Callable[[str], None], opening: Callable[[], str]) -> None:
        self._send = send
        self._opening: Callable[[], str] | None = opening
        self._open: list[SessionScope] = []
        self._number = 0
        self.lenient = False
        """Leave alone what cannot be undone, instead of refusing; for the end of a test, when all of it goes."""

    @property
    def begun(self) -> bool:
        """Whether anything was sent."""
        return self._opening is None

    def enter(self, frame: SessionScope, statement: str) -> None:
        """`frame` is about to execute `statement`.

        Raises:
            RefusedError: It would get between another frame's writes.
        """
        kind, name = _kind(statement)
        self._settle(frame)
        if frame not in self._open:
            self._begin(frame)
        elif self._open[-1] is not frame:
            if not frame.wrote:
                self._open.remove(frame)
                self._begin(frame)
            elif name:
                raise _entangled("uses a savepoint")
        if kind is _Kind.READ:
            return
        if kind is _Kind.UNDO and frame.others > frame.marks.get(name, 0):
            raise _swallowed()
        if kind is _Kind.SAVEPOINT:
            frame.marks[name] = frame.others
        elif kind is _Kind.RELEASE:
            frame.marks.pop(name, None)
        frame.wrote = True
        for above in self._open[self._open.index(frame) + 1 :]:
            above.others += 1

    def commit(self, frame: SessionScope) -> None:
        """`frame` is to stay.

        Raises:
            RefusedError: A frame that began later has written, and would stay with it.
        """
        if frame.failed:
            # So does PostgreSQL with a COMMIT after an error.
            self.rollback(frame)
            return
        if frame not in self._open:
            return
        self._settle(frame)
        if self._open[-1] is frame:
            self._send(f"RELEASE SAVEPOINT {frame.savepoint}")
            self._open.pop()
            if frame.wrote or frame.others:
                for below in self._open:
                    below.others += 1
                self._open = [below for below in self._open if below.wrote]
        elif not frame.wrote:
            self._open.remove(frame)
        else:
            raise _entangled("is committed")
        frame.clear()

    def rollback(self, frame: SessionScope) -> None:
        """Undo what `frame` wrote.

        Raises:
            RefusedError: What others wrote would go with it.
        """
        if frame not in self._open:
            frame.clear()
            return
        self._settle(frame)
        if self.lenient and not (frame.wrote or frame.failed or frame.others):
            # The test is about to end, and all of it with that: a round trip less.
            pass
        elif self._open[-1] is frame and not (frame.wrote and frame.others):
            self._send(f"ROLLBACK TO SAVEPOINT {frame.savepoint}; RELEASE SAVEPOINT {frame.savepoint}")
        elif self._open[-1] is not frame and frame.wrote and not self.lenient:
            raise _entangled("is rolled back")
        elif frame.others and not self.lenient:
            raise _swallowed()
        self._open.remove(frame)
        frame.clear()

    def _begin(self, frame: SessionScope) -> None:
        self._number += 1
        savepoint = f"elefast_{self._number}"
        opening = "" if self._opening is None else self._opening()
        self._send(f"{opening}SAVEPOINT {savepoint}")
        self._opening = None
        frame.clear()
        frame.savepoint = savepoint
        self._open.append(frame)

    def _settle(self, frame: SessionScope) -> None:
        """Take away the frames above `frame` that have nothing to lose."""
        while self._open and self._open[-1] is not frame:
            top = self._open[-1]
            if top.failed and not (top.marks or top.others):
                # It can only be rolled back, so that may as well be done now.
                self._send(f"ROLLBACK TO SAVEPOINT {top.savepoint}")
            elif top.wrote or frame not in self._open:
                return
            self._open.pop()
            top.clear()


def _entangled(what: str) -> RefusedError:
    return RefusedError(
        f"a session {what} while another one, which began later, has written and is still open; with "
        'isolation = "transaction" both are in one transaction.\n'
        f"Commit or close the later one first, or {OWN_DATABASE}",
        code="sessions-overlap",
    )


def _swallowed() -> RefusedError:
    return RefusedError(
        "a session is rolled back after another one wrote or committed inside of it; with "
        'isolation = "transaction" both are in one transaction, so this would undo the other one as well.\n'
        f"Commit before the other one begins, or {OWN_DATABASE}",
        code="sessions-overlap",
    )
