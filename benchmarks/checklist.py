"""A typical seeding script for the same workspace, with ORM objects and a Faker call per value.

It is written as one would write it without measuring: a session for each channel, a query for its members,
``session.add`` for each object, a flush where ids are needed and a commit at the end. It is not slow on purpose:
SQLAlchemy batches the inserts of a flush, members are drawn without a query, and reactions without a list of pairs.
"""

from __future__ import annotations

import random
import re
import string
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from faker import Faker
from sqlalchemy import BigInteger, ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bulkseed.plan.plan import Plan
from bulkseed.postgres.address import Address

__all__ = ["seed"]

CODE_LETTERS: Final = "".join(sorted(set(string.ascii_uppercase + "23456789") - set("IO")))


class Base(DeclarativeBase):
    """The classes of the reference tables."""

    type_annotation_map = {int: BigInteger}  # noqa: RUF012 - SQLAlchemy's own name and form


class User(Base):
    """A row of ``users``."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    auth0_id: Mapped[str]
    email: Mapped[str]
    is_active: Mapped[bool]
    created_at: Mapped[datetime]
    name: Mapped[str]
    picture: Mapped[str | None]
    bio: Mapped[str | None]


class Channel(Base):
    """A row of ``channels``."""

    __tablename__ = "channels"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str | None]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    is_private: Mapped[bool]
    is_dm: Mapped[bool]
    join_code: Mapped[str | None]


class UserChannel(Base):
    """A row of ``user_channels``."""

    __tablename__ = "user_channels"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id"), primary_key=True)


class Message(Base):
    """A row of ``messages``."""

    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("messages.id"))


class Reaction(Base):
    """A row of ``reactions``."""

    __tablename__ = "reactions"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]
    is_system: Mapped[bool]


class MessageReaction(Base):
    """A row of ``message_reactions``."""

    __tablename__ = "message_reactions"
    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id"), primary_key=True)
    reaction_id: Mapped[int] = mapped_column(ForeignKey("reactions.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    created_at: Mapped[datetime]


class Seeder:
    """Makes the objects of one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chance = plan.probabilities
        self.as_of = plan.as_of.replace(tzinfo=None)
        self.year = plan.history_start.replace(tzinfo=None)
        self.random = random.Random(plan.seed)
        self.fake = Faker(plan.locale)
        self.fake.seed_instance(plan.seed)
        self.codes: set[str] = set()
        self.added: Counter[str] = Counter()

    def add(self, session: AsyncSession, row: Base) -> None:
        session.add(row)
        self.added[row.__tablename__] += 1

    def is_so(self, probability: float) -> bool:
        return self.random.random() < probability

    def moment(self, low: datetime) -> datetime:
        return low + (self.as_of - low) * self.random.random()

    def join_code(self) -> str:
        while True:
            code = "".join(self.random.choices(CODE_LETTERS, k=8))
            if code not in self.codes:
                self.codes.add(code)
                return code

    def user(self, number: int) -> User:
        name = self.fake.name()
        slug = ".".join(re.findall("[a-z]+", name.lower())) or "user"
        return User(
            auth0_id=f"auth0|{uuid.UUID(int=self.random.getrandbits(128), version=4)}",
            email=f"{slug}.{number}@example.com",
            is_active=self.is_so(self.chance.user_active),
            created_at=self.moment(self.year),
            name=name,
            picture=f"https://www.gravatar.com/avatar/{self.fake.md5()}?d=identicon",
            bio=self.fake.text(max_nb_chars=200),
        )

    def channel(self, owner: User) -> Channel:
        is_dm = self.is_so(self.chance.channel_dm)
        is_private = is_dm or self.is_so(self.chance.channel_private)
        return Channel(
            name=f"{owner.name} DM" if is_dm else self.fake.company(),
            description=None if is_dm else self.fake.text(max_nb_chars=100),
            owner_id=owner.id,
            created_at=self.moment(owner.created_at),
            is_private=is_private,
            is_dm=is_dm,
            join_code=self.join_code() if is_private and not is_dm else None,
        )

    def members(self, channel: Channel, owner: User, users: Sequence[User]) -> list[User]:
        others = [user for user in users if user.id != owner.id]
        size = 2 if channel.is_dm else self.random.randint(2, self.plan.largest_channel)
        return [owner, *self.random.sample(others, size - 1)]

    def message(self, channel: Channel, author: User, replier: User | None) -> Message:
        low = max(user.created_at for user in (author, replier) if user)
        created_at = self.moment(max(low, channel.created_at))
        is_paragraph = self.is_so(self.chance.message_paragraph)
        return Message(
            content=self.fake.paragraph() if is_paragraph else self.fake.sentence(),
            created_at=created_at,
            updated_at=created_at,
            user_id=author.id,
            channel_id=channel.id,
            parent_id=None,
        )

    def reply(self, parent: Message, author: User) -> Message:
        delay = timedelta(seconds=self.random.randint(60, 3600))
        created_at = min(parent.created_at + delay, self.as_of)
        return Message(
            content=self.fake.sentence(),
            created_at=created_at,
            updated_at=created_at,
            user_id=author.id,
            channel_id=parent.channel_id,
            parent_id=parent.id,
        )

    def reactions(
        self, message: Message, members: Sequence[User], catalogue: Sequence[Reaction]
    ) -> list[MessageReaction]:
        pairs = len(members) * len(catalogue)
        found = []
        for pair in self.random.sample(range(pairs), min(self.random.randint(1, 3), pairs)):
            user, reaction = members[pair // len(catalogue)], catalogue[pair % len(catalogue)]
            found.append(
                MessageReaction(
                    message_id=message.id,
                    reaction_id=reaction.id,
                    user_id=user.id,
                    created_at=self.moment(max(message.created_at, user.created_at)),
                )
            )
        return found

    async def seed_users(self, session: AsyncSession) -> None:
        for number in range(self.plan.users):
            self.add(session, self.user(number))
        await session.commit()

    async def seed_channel(self, session: AsyncSession, users: Sequence[User]) -> Channel:
        owner = self.random.choice(users)
        channel = self.channel(owner)
        self.add(session, channel)
        await session.flush()
        for member in self.members(channel, owner, users):
            self.add(session, UserChannel(user_id=member.id, channel_id=channel.id))
        await session.commit()
        return channel

    async def seed_messages(self, session: AsyncSession, channel: Channel, catalogue: Sequence[Reaction]) -> None:
        of_channel = (
            select(User).join(UserChannel, UserChannel.user_id == User.id).where(UserChannel.channel_id == channel.id)
        )
        members = (await session.scalars(of_channel)).all()
        messages: list[Message] = []
        replied: list[tuple[Message, User]] = []
        for _ in range(self.plan.messages_per_channel):
            author, other = self.random.sample(members, 2)
            has_reply = self.is_so(self.chance.message_reply)
            message = self.message(channel, author, other if has_reply else None)
            self.add(session, message)
            messages.append(message)
            if has_reply:
                replied.append((message, other))
        await session.flush()
        for parent, author in replied:
            reply = self.reply(parent, author)
            self.add(session, reply)
            messages.append(reply)
        await session.flush()
        for message in messages:
            if self.is_so(self.chance.message_reactions):
                for reaction in self.reactions(message, members, catalogue):
                    self.add(session, reaction)
        await session.commit()


async def seed(plan: Plan, address: Address) -> dict[str, int]:
    """Seed the database at ``address`` by ``plan``, and return the rows of each table."""
    engine = create_async_engine(address.url._replace(scheme="postgresql+asyncpg").render())
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    seeder = Seeder(plan)
    async with sessions() as session:
        await seeder.seed_users(session)
        users = (await session.scalars(select(User).order_by(User.id))).all()
        catalogue = (await session.scalars(select(Reaction).where(Reaction.is_system))).all()
    for _ in range(plan.channels):
        async with sessions() as session:
            channel = await seeder.seed_channel(session, users)
        async with sessions() as session:
            await seeder.seed_messages(session, channel, catalogue)
    await engine.dispose()
    return dict(seeder.added)
