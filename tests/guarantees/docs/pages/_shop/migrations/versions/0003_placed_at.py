"""When an order was placed.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("order", sa.Column("placed_at", sa.DateTime, nullable=False, server_default=sa.func.now()))


def downgrade() -> None:
    op.drop_column("order", "placed_at")
