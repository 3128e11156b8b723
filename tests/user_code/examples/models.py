"""The models of an app, which have defaults for some columns."""

import enum
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base of all models."""

    metadata = sa.MetaData(schema="app")


class Plan(enum.Enum):
    """The plan of an account."""

    free = "FREE"
    pro = "PRO"


class Account(Base):
    """A user."""

    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(120), unique=True)
    created_at: Mapped[Any] = mapped_column(sa.DateTime)
    plan: Mapped[Plan] = mapped_column(default=Plan.free)
    settings: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    key: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4, unique=True)
    logins: Mapped[int] = mapped_column(default=0)


class Room(Base):
    """A channel."""

    __tablename__ = "rooms"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    name: Mapped[str]
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey(Account.id))
    created_at: Mapped[Any] = mapped_column(sa.DateTime)
    is_private: Mapped[bool]
    is_dm: Mapped[bool]
