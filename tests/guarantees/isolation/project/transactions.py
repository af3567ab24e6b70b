"""What becomes of each kind of dirt with `isolation = "transaction"`; what is not here is rolled back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FATES", "Fate"]


@dataclass(frozen=True)
class Fate:
    """What becomes of one kind.

    Args:
        refused: What PostgreSQL says, so that nothing comes of it.
        noticed: What the warning says of the test, whose database is thrown away.
        suspected: What a warning says of all tests since elefast looked last.
        stays: Parts of a look at the database that the next tests find changed, as the documentation has it.
    """

    refused: str = ""
    noticed: str = ""
    suspected: str = ""
    stays: frozenset[str] = field(default_factory=frozenset)


def _stays(*parts: str) -> Fate:
    return Fate(stays=frozenset(parts))


_IN_TRANSACTION = Fate(refused="cannot (run|be executed) (inside|from|within) a transaction")
_AUTHORS = "rows of public.author_id_seq"

FATES: Mapping[str, Fate] = {
    # PostgreSQL refuses it in a transaction
    "index-concurrently": _IN_TRANSACTION,
    "vacuum-full": _IN_TRANSACTION,
    "tablespace": _IN_TRANSACTION,
    "alter-system": _IN_TRANSACTION,
    "database": _IN_TRANSACTION,
    # it is none of the transaction's business
    "logical-slot": Fate(noticed="left a replication slot"),
    "physical-slot": Fate(suspected='replication slot "dirt_slot" is new'),
    "prepared-transaction": Fate(noticed="ended the transaction that it was in"),
    # sequences are not rolled back
    "insert": _stays(_AUTHORS),
    "materialised-view": _stays(_AUTHORS),
    "idle-in-transaction": _stays(_AUTHORS),
    "nextval-once": _stays("rows of public.ticket"),
    "nextval-33-times": _stays("rows of public.ticket"),
    "setval": _stays("rows of public.ticket", _AUTHORS),
    "deferred-constraint": _stays("rows of public.book_id_seq"),
    # the session's, which sync tests share
    "prepared-statement": _stays("prepared statements"),
}
"""By the names of `dirt`."""
