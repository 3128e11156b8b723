"""Users are accounts, rooms conversations, messages posts

Revision ID: c83f05b6a2d7
Revises: a41c7d2e9b10
Create Date: 2024-11-19 16:40:02
"""

import sqlalchemy as sa
from alembic import op

revision = "c83f05b6a2d7"
down_revision = "a41c7d2e9b10"

TABLES = {"users": "accounts", "rooms": "conversations", "messages": "posts", "message_reactions": "post_reactions"}
COLUMNS = [
    ("accounts", "full_name", "display_name"),
    ("accounts", "created_at", "joined_at"),
    ("conversations", "created_at", "opened_at"),
    ("participants", "room_id", "conversation_id"),
    ("participants", "user_id", "account_id"),
    ("posts", "room_id", "conversation_id"),
    ("posts", "created_at", "posted_at"),
    ("post_reactions", "message_id", "post_id"),
    ("post_reactions", "user_id", "account_id"),
    ("post_reactions", "created_at", "reacted_at"),
]


def upgrade() -> None:
    for old, new in TABLES.items():
        op.rename_table(old, new)
    for table, old, new in COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    op.add_column("posts", sa.Column("edited_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("posts", "edited_at")
    for table, old, new in COLUMNS:
        op.alter_column(table, new, new_column_name=old)
    for old, new in TABLES.items():
        op.rename_table(new, old)
