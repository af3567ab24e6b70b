"""The tables."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, Table, Text

metadata = MetaData()

note = Table("note", metadata, Column("id", Integer, primary_key=True), Column("body", Text, nullable=False))
