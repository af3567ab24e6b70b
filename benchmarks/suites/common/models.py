"""The schema of every suite: tables with a primary key, two indexes and a foreign key to the one before."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Of all tables."""


def _model(number: int) -> Any:
    before = f"table_{number - 1}.id" if number else None
    name = f"Table{number}"
    columns: dict[str, Any] = {
        "__tablename__": f"table_{number}",
        "__annotations__": {
            "id": Mapped[int],
            "name": Mapped[str],
            "amount": Mapped[int],
            "before": Mapped[int | None],
        },
        "id": mapped_column(primary_key=True),
        "name": mapped_column(index=True),
        "amount": mapped_column(index=True),
        "before": mapped_column(ForeignKey(before) if before else None),
    }
    return type(name, (Base,), columns)


MODELS = [_model(number) for number in range(int(os.environ.get("BENCH_TABLES", "20")))]
