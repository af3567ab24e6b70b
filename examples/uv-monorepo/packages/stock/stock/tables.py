"""The tables of the stock."""

from sqlalchemy import Column, Integer, MetaData, Table, Text

metadata = MetaData()
shelf = Table("shelf", metadata, Column("id", Integer, primary_key=True), Column("product", Text, nullable=False))
