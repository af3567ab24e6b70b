"""The tables of orders."""

from sqlalchemy import Column, Integer, MetaData, Table, Text

metadata = MetaData()
order = Table("order", metadata, Column("id", Integer, primary_key=True), Column("product", Text, nullable=False))
