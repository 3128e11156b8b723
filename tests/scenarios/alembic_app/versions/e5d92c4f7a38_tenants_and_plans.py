"""Tenants, plans and formats

Revision ID: e5d92c4f7a38
Revises: c83f05b6a2d7
Create Date: 2025-08-28 11:03:51
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ENUM, JSONB, UUID

revision = "e5d92c4f7a38"
down_revision = "c83f05b6a2d7"

FIRST_TENANT = "7b0f6f0e-3c0a-4f5e-9a53-0d8f5f0c2a11"

plan = ENUM("free", "team", "enterprise", name="account_plan", create_type=False)


def upgrade() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("id", UUID(), server_default=sa.func.gen_random_uuid(), primary_key=True),
        sa.Column("name", sa.String(160), nullable=False, unique=True),
    )
    op.bulk_insert(tenants, [{"id": FIRST_TENANT, "name": "The first one"}])
    plan.create(op.get_bind())
    # those that are there are of the first tenant; new ones must say of which
    op.add_column("accounts", sa.Column("tenant_id", UUID(), sa.ForeignKey("tenants.id")))
    op.add_column("accounts", sa.Column("plan", plan))
    op.add_column("accounts", sa.Column("settings", JSONB(), server_default="{}", nullable=False))
    op.add_column("posts", sa.Column("body_format", sa.String(10)))
    op.execute(f"UPDATE accounts SET tenant_id = '{FIRST_TENANT}', plan = 'free'")
    op.execute("UPDATE posts SET body_format = 'plain'")
    op.alter_column("accounts", "tenant_id", nullable=False)
    op.alter_column("accounts", "plan", nullable=False)
    op.alter_column("posts", "body_format", nullable=False)
    op.create_check_constraint("ck_posts_body_format", "posts", "body_format IN ('plain', 'markdown')")
    op.create_index("ix_accounts_tenant_id", "accounts", ["tenant_id"])


def downgrade() -> None:
    op.drop_column("posts", "body_format")
    for column in ("settings", "plan", "tenant_id"):
        op.drop_column("accounts", column)
    plan.drop(op.get_bind())
    op.drop_table("tenants")
