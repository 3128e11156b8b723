"""First tables

Revision ID: a41c7d2e9b10
Revises:
Create Date: 2024-02-05 09:12:44
"""

import uuid

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import CITEXT, ENUM, UUID

revision = "a41c7d2e9b10"
down_revision = None

EMOJIS = ["+1", "-1", "heart", "joy", "tada", "eyes", "fire", "rocket", "pray", "clap", "thinking", "ok"]
NAMESPACE = uuid.UUID("5a0c8fd1-6d0a-4c8e-9d4e-1d1a4a6f4b52")

role = ENUM("owner", "member", "guest", name="participant_role")


def key() -> sa.Column[uuid.UUID]:
    return sa.Column("id", UUID(), server_default=sa.func.gen_random_uuid(), primary_key=True)


def points_at(name: str, table: str, *, nullable: bool = False, ondelete: str | None = None) -> sa.Column[uuid.UUID]:
    return sa.Column(name, UUID(), sa.ForeignKey(f"{table}.id", ondelete=ondelete), nullable=nullable)


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS citext")
    op.create_table(
        "users",
        key(),
        sa.Column("email", CITEXT(), nullable=False, unique=True),
        sa.Column("full_name", sa.String(160), nullable=False),
        sa.Column("avatar_url", sa.Text()),
        sa.Column("about", sa.String(240)),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        moment("created_at"),
    )
    op.create_table(
        "rooms",
        key(),
        sa.Column("title", sa.String(160), nullable=False),
        sa.Column("topic", sa.String(200)),
        points_at("created_by", "users"),
        sa.Column("is_private", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_direct", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("invite_code", sa.String(12), unique=True),
        moment("created_at"),
    )
    op.create_index("ix_rooms_created_by", "rooms", ["created_by"])
    op.create_table(
        "participants",
        key(),
        points_at("room_id", "rooms", ondelete="CASCADE"),
        points_at("user_id", "users", ondelete="CASCADE"),
        sa.Column("role", role, server_default="member", nullable=False),
        moment("joined_at"),
        sa.UniqueConstraint("room_id", "user_id", name="uq_participants_room_user"),
    )
    op.create_index("ix_participants_user_id", "participants", ["user_id"])
    op.create_table(
        "messages",
        key(),
        points_at("room_id", "rooms", ondelete="CASCADE"),
        points_at("author_id", "users"),
        points_at("reply_to_id", "messages", nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        moment("created_at"),
        sa.CheckConstraint("body <> ''", name="ck_messages_body"),
    )
    op.create_index("ix_messages_author_id", "messages", ["author_id"])
    op.create_index("ix_messages_room_created", "messages", ["room_id", "created_at"])
    op.create_index(
        "ix_messages_reply_to_id", "messages", ["reply_to_id"], postgresql_where=sa.text("reply_to_id IS NOT NULL")
    )
    emojis = op.create_table(
        "emojis",
        key(),
        sa.Column("shortcode", sa.String(40), nullable=False, unique=True),
        sa.Column("is_builtin", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.bulk_insert(
        emojis,
        [{"id": uuid.uuid5(NAMESPACE, code), "shortcode": code, "is_builtin": True} for code in EMOJIS],
    )
    op.create_table(
        "message_reactions",
        points_at("message_id", "messages", ondelete="CASCADE"),
        points_at("emoji_id", "emojis"),
        points_at("user_id", "users", ondelete="CASCADE"),
        moment("created_at"),
        sa.PrimaryKeyConstraint("message_id", "emoji_id", "user_id"),
    )
    op.create_index("ix_message_reactions_user_id", "message_reactions", ["user_id"])


def downgrade() -> None:
    for table in ("message_reactions", "emojis", "messages", "participants", "rooms", "users"):
        op.drop_table(table)
    role.drop(op.get_bind())
