"""Corruptions of a database into which plan_of("3x") was loaded, each with the check that must find it."""

from __future__ import annotations

from typing import Final, NamedTuple

from bulkseed.text.faker_source import make_corpus

UNCHECKED: Final = "SET session_replication_role = replica"
"""Turns off the foreign keys and triggers of this connection."""

DM: Final = "(SELECT min(id) FROM channels WHERE is_dm)"
REGULAR: Final = "(SELECT min(id) FROM channels WHERE NOT is_dm)"
PUBLIC: Final = "(SELECT min(id) FROM channels WHERE NOT is_private)"
CODED: Final = "(SELECT min(id) FROM channels WHERE is_private AND NOT is_dm)"
OTHER_CODED: Final = "(SELECT max(id) FROM channels WHERE is_private AND NOT is_dm)"
TOP: Final = "(SELECT min(id) FROM messages WHERE parent_id IS NULL)"
LAST_TOP: Final = (
    "(SELECT max(id) FROM messages AS m WHERE parent_id IS NULL"
    " AND NOT EXISTS (SELECT FROM messages AS r WHERE r.parent_id = m.id))"
)
REPLY: Final = "(SELECT min(id) FROM messages WHERE parent_id IS NOT NULL)"
REACTED: Final = "(SELECT min(message_id) FROM message_reactions)"
THRICE: Final = "(SELECT message_id FROM message_reactions GROUP BY 1 HAVING count(*) = 3 ORDER BY 1 LIMIT 1)"
ONE_REACTION: Final = (
    "(message_id, reaction_id, user_id) = "
    "(SELECT message_id, reaction_id, user_id FROM message_reactions ORDER BY 1, 2, 3 LIMIT 1)"
)
APP_USER: Final = (
    "INSERT INTO users (id, auth0_id, email, is_active, created_at, name) "
    "VALUES (9999, 'app', 'app@corp.test', true, '2026-01-01', 'App')"
)
SYSTEM: Final = "(SELECT min(id) FROM reactions)"
WORDS: Final = make_corpus("en_US").lorem.words


def optional(table: str, column: str) -> str:
    return f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL"


def any_length(table: str, column: str) -> str:
    return f"ALTER TABLE {table} ALTER COLUMN {column} TYPE text"


def keyless(table: str, constraint: str = "pkey") -> str:
    return f"ALTER TABLE {table} DROP CONSTRAINT {table}_{constraint} CASCADE"


def sentence(words: int, first: int = 0) -> str:
    return f"{' '.join(WORDS[first : first + words]).capitalize()}."


class Corruption(NamedTuple):
    """Statements that break a rule, words of the check that finds it, and the violations (None: at least one)."""

    rule: str
    text: str
    violations: int | None
    statements: tuple[str, ...]


def broken(rule: str, text: str, *statements: str, violations: int | None = 1) -> Corruption:
    return Corruption(rule, text, violations, statements)


def user(rule: str, text: str, change: str, *before: str) -> Corruption:
    return broken(rule, text, *before, f"UPDATE users SET {change} WHERE id = 17")


def channel(rule: str, text: str, which: str, change: str, *before: str) -> Corruption:
    return broken(rule, text, *before, f"UPDATE channels SET {change} WHERE id = {which}")


def message(rule: str, text: str, which: str, change: str, *before: str) -> Corruption:
    return broken(rule, text, *before, f"UPDATE messages SET {change} WHERE id = {which}")


def content(value: str) -> Corruption:
    return message("G3", "of Faker's sentences", LAST_TOP, f"content = {value}", optional("messages", "content"))


def reaction(rule: str, text: str, change: str, *before: str) -> Corruption:
    return broken(rule, text, *before, f"UPDATE message_reactions SET {change} WHERE {ONE_REACTION}")


CORRUPTIONS: Final = {
    # the numbers of rows
    "a user gone": broken("N", "rows of users as", UNCHECKED, "DELETE FROM users WHERE id = 17"),
    "a channel gone": broken("N", "rows of channels as", UNCHECKED, f"DELETE FROM channels WHERE id = {DM}"),
    "a membership gone": broken(
        "N",
        "rows of user_channels as",
        f"""DELETE FROM user_channels WHERE (user_id, channel_id) =
            (SELECT m.user_id, c.id FROM channels AS c JOIN user_channels AS m ON m.channel_id = c.id
             WHERE c.id = {REGULAR} AND m.user_id <> c.owner_id LIMIT 1)""",
    ),
    "a membership more": broken(
        "N",
        "rows of user_channels as",
        f"""INSERT INTO user_channels SELECT u.id, {DM} FROM users AS u
            WHERE u.id NOT IN (SELECT user_id FROM user_channels WHERE channel_id = {DM}) LIMIT 1""",
    ),
    "a message gone": broken("N", "rows of messages as", UNCHECKED, f"DELETE FROM messages WHERE id = {LAST_TOP}"),
    "a message with another id": broken(
        "N", "rows of messages as", UNCHECKED, f"UPDATE messages SET id = 99999 WHERE id = {LAST_TOP}"
    ),
    "a reaction gone": broken(
        "N", "rows of message_reactions as", f"DELETE FROM message_reactions WHERE {ONE_REACTION}"
    ),
    "all reactions gone": broken("N", "rows of message_reactions as", "DELETE FROM message_reactions", violations=None),
    "a user twice": broken(
        "N",
        "no id is in users twice",
        keyless("users"),
        keyless("users", "email_key"),
        keyless("users", "auth0_id_key"),
        "INSERT INTO users SELECT * FROM users WHERE id = 17",
    ),
    "a channel twice": broken(
        "N",
        "no id is in channels twice",
        keyless("channels"),
        f"INSERT INTO channels SELECT * FROM channels WHERE id = {DM}",
    ),
    "a message twice, another gone": broken(
        "N",
        "no id is in messages twice",
        UNCHECKED,
        keyless("messages"),
        f"DELETE FROM messages WHERE id = {LAST_TOP}",
        f"INSERT INTO messages SELECT * FROM messages WHERE id = {TOP}",
    ),
    "a message in another channel": broken(
        "N",
        "top-level messages",
        f"UPDATE messages SET channel_id = (SELECT min(id) FROM channels) WHERE id = {LAST_TOP}",
        violations=2,
    ),
    # users
    "an auth0_id of other letters": user("U1", "version-4", "auth0_id = 'auth1' || substr(auth0_id, 6)"),
    "a UUID of version 1": user("U1", "version-4", "auth0_id = overlay(auth0_id PLACING '1' FROM 21)"),
    "a UUID of another variant": user("U1", "version-4", "auth0_id = overlay(auth0_id PLACING 'c' FROM 26)"),
    "a UUID in capitals": user("U1", "version-4", "auth0_id = 'auth0|' || upper(substr(auth0_id, 7))"),
    "a UUID and a new line": user("U1", "version-4", r"auth0_id = auth0_id || E'\n'"),
    "no auth0_id": user("U1", "version-4", "auth0_id = NULL", optional("users", "auth0_id")),
    "an auth0_id of two users": broken(
        "U1",
        "auth0_id is unique",
        keyless("users", "auth0_id_key"),
        "UPDATE users SET auth0_id = (SELECT auth0_id FROM users WHERE id = 16) WHERE id = 17",
        violations=2,
    ),
    "an auth0_id that an app's user has too": broken(
        "U1",
        "auth0_id is unique",
        keyless("users", "auth0_id_key"),
        APP_USER,
        "UPDATE users SET auth0_id = (SELECT auth0_id FROM users WHERE id = 17) WHERE id = 9999",
    ),
    "an email without @": user("U2", "form of an address", "email = replace(email, '@', '.at.')"),
    "an email with a space": user("U2", "form of an address", "email = ' ' || email"),
    "no email": user("U2", "form of an address", "email = NULL", optional("users", "email")),
    "an email of another name": user("U2", "begins with the name", "email = 'x' || email"),
    "an email of a part of the name": user("U2", "begins with the name", "email = left(email, 3) || '.17@example.com'"),
    "an email of two users": broken(
        "U2",
        "email is unique",
        keyless("users", "email_key"),
        "UPDATE users SET email = (SELECT email FROM users WHERE id = 16) WHERE id = 17",
        violations=2,
    ),
    "an email that an app's user has too": broken(
        "U2",
        "email is unique",
        keyless("users", "email_key"),
        APP_USER,
        "UPDATE users SET email = (SELECT email FROM users WHERE id = 17) WHERE id = 9999",
    ),
    "neither active nor not": user("U3", "is_active is set", "is_active = NULL", optional("users", "is_active")),
    "an account of last year": user("U4", "1 January", "created_at = '2025-12-31 23:59:59.999999'"),
    "an account of later": user("U4", "to as_of", "created_at = '2026-06-01 00:00:00.000001'"),
    "an account of no time": user("U4", "to as_of", "created_at = NULL", optional("users", "created_at")),
    "a name that no Faker makes": user("U5", "name is one", "name = name || 'qx'"),
    "no name": user("U5", "name is one", "name = NULL", optional("users", "name")),
    "a picture without TLS": user("U5", "picture", "picture = replace(picture, 'https', 'http')"),
    "a picture nowhere": user("U5", "picture", "picture = 'https://'"),
    "no picture": user("U5", "picture", "picture = NULL"),
    "an empty bio": user("U5", "bio", "bio = ''"),
    "a long bio": user("U5", "bio", "bio = repeat('a', 201)", any_length("users", "bio")),
    "no bio": user("U5", "bio", "bio = NULL"),
    # channels
    "a DM or not": channel("C1", "are set", DM, "is_dm = NULL", optional("channels", "is_dm")),
    "private or not": channel("C1", "are set", PUBLIC, "is_private = NULL", optional("channels", "is_private")),
    "a public DM": channel("C1", "a DM is private", DM, "is_private = false"),
    "a DM of another name": channel("C2", "a DM's name", DM, "name = 'x' || name"),
    "a DM without a name": channel("C2", "a DM's name", DM, "name = NULL", optional("channels", "name")),
    "a DM whose owner is called otherwise": broken(
        "C2",
        "a DM's name",
        f"UPDATE users SET name = name || 'x' WHERE id = (SELECT owner_id FROM channels WHERE id = {DM})",
        violations=None,
    ),
    "a channel with a user's name": channel("C2", "a company's", REGULAR, "name = 'lounge'"),
    "a channel without a name": channel("C2", "a company's", REGULAR, "name = NULL", optional("channels", "name")),
    "a DM with a description": channel("C3", "a DM has no", DM, "description = 'x'"),
    "no description": channel("C3", "a regular channel's", REGULAR, "description = NULL"),
    "an empty description": channel("C3", "a regular channel's", REGULAR, "description = ''"),
    "a blank description": channel("C3", "a regular channel's", REGULAR, "description = '  '"),
    "a long description": channel(
        "C3", "a regular", REGULAR, "description = repeat('a', 101)", any_length("channels", "description")
    ),
    "an owner of the app": channel("C4", "owner_id is a user", REGULAR, "owner_id = 9999", APP_USER),
    "an owner who is gone": channel("C4", "owner_id is a user", REGULAR, "owner_id = 777", UNCHECKED),
    "no owner": channel("C4", "owner_id is a user", REGULAR, "owner_id = NULL", optional("channels", "owner_id")),
    "a channel older than its owner": channel(
        "C4",
        "from the owner's",
        REGULAR,
        "created_at = (SELECT created_at - interval '1 microsecond' FROM users WHERE id = owner_id)",
    ),
    "a channel of later": channel("C4", "to as_of", REGULAR, "created_at = '2026-06-01 00:00:00.000001'"),
    "a channel of no time": channel("C4", "to as_of", REGULAR, "created_at = NULL", optional("channels", "created_at")),
    "a private channel without a join code": channel("C5", "if and only if", CODED, "join_code = NULL"),
    "a public channel with a join code": channel("C5", "if and only if", PUBLIC, "join_code = 'ABCDEFGH'"),
    "a DM with a join code": channel("C5", "if and only if", DM, "join_code = 'ABCDEFGH'"),
    "a join code with an O": channel("C5", "look-alikes", CODED, "join_code = 'ABCDEFGO'"),
    "a join code with a 1": channel("C5", "look-alikes", CODED, "join_code = '1BCDEFGH'"),
    "a join code in small letters": channel("C5", "look-alikes", CODED, "join_code = lower(join_code)"),
    "a join code of seven": channel("C5", "look-alikes", CODED, "join_code = left(join_code, 7)"),
    "a join code of two channels": broken(
        "C5",
        "join_code is unique",
        keyless("channels", "join_code_key"),
        f"UPDATE channels SET join_code = 'ABCDEFGH' WHERE id IN ({CODED}, {OTHER_CODED})",
        violations=2,
    ),
    "a join code that an app's channel has too": broken(
        "C5",
        "join_code is unique",
        keyless("channels", "join_code_key"),
        "INSERT INTO channels (id, name, owner_id, created_at, is_private, is_dm, join_code) "
        f"SELECT 9999, 'app', 1, now(), true, false, join_code FROM channels WHERE id = {CODED}",
    ),
    # memberships
    "a DM of three": broken(
        "M1",
        "has two members",
        f"""INSERT INTO user_channels SELECT u.id, {DM} FROM users AS u
            WHERE u.id NOT IN (SELECT user_id FROM user_channels WHERE channel_id = {DM}) LIMIT 1""",
    ),
    "a DM of one": broken(
        "M1",
        "has two members",
        f"""DELETE FROM user_channels WHERE channel_id = {DM}
            AND user_id <> (SELECT owner_id FROM channels WHERE id = {DM})""",
    ),
    "a DM with oneself": broken(
        "M1",
        "has two members",
        keyless("user_channels"),
        f"""UPDATE user_channels SET user_id = (SELECT owner_id FROM channels WHERE id = {DM})
            WHERE channel_id = {DM}""",
    ),
    "a DM of nobody": broken("M1", "has two members", f"DELETE FROM user_channels WHERE channel_id = {DM}"),
    "a DM with the app": broken(
        "M1",
        "of a DM are users",
        APP_USER,
        f"""UPDATE user_channels SET user_id = 9999 WHERE channel_id = {DM}
            AND user_id <> (SELECT owner_id FROM channels WHERE id = {DM})""",
    ),
    "a channel of one": broken(
        "M2",
        "has 2 to 60 members",
        f"""DELETE FROM user_channels WHERE channel_id = {REGULAR}
            AND user_id <> (SELECT owner_id FROM channels WHERE id = {REGULAR})""",
    ),
    "a channel of more than all": broken(
        "M2",
        "has 2 to 60 members",
        APP_USER,
        f"INSERT INTO user_channels SELECT id, {REGULAR} FROM users ON CONFLICT DO NOTHING",
    ),
    "a channel of nobody": broken(
        "M2", "has 2 to 60 members", f"DELETE FROM user_channels WHERE channel_id = {REGULAR}"
    ),
    "a member twice": broken(
        "M2",
        "are all different",
        keyless("user_channels"),
        f"INSERT INTO user_channels SELECT owner_id, id FROM channels WHERE id = {REGULAR}",
    ),
    "a member who is nobody": broken(
        "M2",
        "are all different",
        keyless("user_channels"),
        optional("user_channels", "user_id"),
        f"INSERT INTO user_channels VALUES (NULL, {REGULAR})",
    ),
    "a member of the app": broken(
        "M2", "regular channel are users", APP_USER, f"INSERT INTO user_channels VALUES (9999, {REGULAR})"
    ),
    "a member who is gone": broken(
        "M2", "regular channel are users", UNCHECKED, f"INSERT INTO user_channels VALUES (777, {REGULAR})"
    ),
    "members of a channel that is gone": broken(
        "M2", "membership exists", UNCHECKED, f"DELETE FROM channels WHERE id = {REGULAR}", violations=None
    ),
    "an owner who is no member": broken(
        "M3",
        "the owner is a member",
        f"""DELETE FROM user_channels WHERE channel_id = {REGULAR}
            AND user_id = (SELECT owner_id FROM channels WHERE id = {REGULAR})""",
    ),
    "an owner from outside": broken(
        "M3",
        "the owner is a member",
        f"""UPDATE channels SET owner_id = (SELECT min(id) FROM users WHERE id NOT IN
            (SELECT user_id FROM user_channels WHERE channel_id = {DM})) WHERE id = {DM}""",
    ),
    # messages
    "an author from outside": broken(
        "G1",
        "a member of the channel",
        f"""UPDATE messages AS m SET user_id =
            (SELECT min(id) FROM users WHERE id NOT IN
             (SELECT user_id FROM user_channels AS x WHERE x.channel_id = m.channel_id))
            WHERE id = (SELECT min(id) FROM messages WHERE channel_id = {DM})""",
    ),
    "an author who is gone": message("G1", "a member of the channel", LAST_TOP, "user_id = 777", UNCHECKED),
    "no author": message("G1", "the author is a user", LAST_TOP, "user_id = NULL", optional("messages", "user_id")),
    "an author of the app": message("G1", "the author is a user", LAST_TOP, "user_id = 9999", APP_USER),
    "a message in a channel that is gone": message(
        "G1", "the channel a channel", LAST_TOP, "channel_id = 777", UNCHECKED
    ),
    "a message in no channel": message(
        "G1", "the channel a channel", LAST_TOP, "channel_id = NULL", optional("messages", "channel_id")
    ),
    "a message before its channel": broken(
        "G2",
        "the later of",
        """UPDATE messages AS m SET created_at = c.created_at - interval '1 microsecond'
           FROM channels AS c, users AS u WHERE c.id = m.channel_id AND u.id = m.user_id AND m.id =
           (SELECT max(m.id) FROM messages AS m JOIN channels AS c ON c.id = m.channel_id
            JOIN users AS u ON u.id = m.user_id WHERE c.created_at > u.created_at)""",
    ),
    "a message before its author": broken(
        "G2",
        "the later of",
        """UPDATE messages AS m SET created_at = u.created_at - interval '1 microsecond'
           FROM channels AS c, users AS u WHERE c.id = m.channel_id AND u.id = m.user_id AND m.id =
           (SELECT max(m.id) FROM messages AS m JOIN channels AS c ON c.id = m.channel_id
            JOIN users AS u ON u.id = m.user_id WHERE u.created_at > c.created_at)""",
    ),
    "a message of later": message("G2", "to as_of", LAST_TOP, "created_at = '2026-06-01 00:00:00.000001'"),
    "a message of no time": message(
        "G2", "to as_of", LAST_TOP, "created_at = NULL", optional("messages", "created_at")
    ),
    "a message changed later": message(
        "G2", "updated_at", LAST_TOP, "updated_at = updated_at + interval '1 microsecond'"
    ),
    "a message never updated": message(
        "G2", "updated_at", LAST_TOP, "updated_at = NULL", optional("messages", "updated_at")
    ),
    "no content": content("NULL"),
    "an empty content": content("''"),
    "a word that is not listed": content("'Policy want qxq street.'"),
    "a first word that is not listed": content("'Qxq want street.'"),
    "a small letter first": content("lower(content)"),
    "a capital inside": content(f"'{sentence(3)[:-1]} {WORDS[5].title()}.'"),
    "no full stop": content("left(content, -1)"),
    "two full stops": content("content || '.'"),
    "two spaces": content("replace(content, ' ', '  ')"),
    "a space at the end": content("content || ' '"),
    "a sentence of two words": content(f"'{sentence(2)}'"),
    "a sentence of nine words": content(f"'{sentence(9)}'"),
    "a paragraph of five sentences": content(f"'{' '.join(sentence(3, at) for at in range(5))}'"),
    "sentences without a space between": content(f"'{sentence(3)}{sentence(3, 3)}'"),
    "a reply to a reply": message(
        "G4", "no reply itself", LAST_TOP, f"parent_id = {REPLY}", "ALTER TABLE messages DISABLE TRIGGER USER"
    ),
    "a reply to a message that is gone": message("G4", "no reply itself", REPLY, "parent_id = 77777", UNCHECKED),
    "a reply to an app's message": message(
        "G4",
        "no reply itself",
        REPLY,
        "parent_id = 99999",
        f"INSERT INTO messages SELECT 99999, content, created_at, updated_at, user_id, channel_id FROM messages "
        f"WHERE id = {TOP}",
    ),
    "a message with two replies": message(
        "G4", "at most one reply", LAST_TOP, "parent_id = (SELECT min(parent_id) FROM messages)"
    ),
    "a reply in another channel": message(
        "G4", "in its parent's channel", REPLY, "channel_id = (SELECT max(id) FROM channels)"
    ),
    "a reply to oneself": message(
        "G4",
        "by another",
        REPLY,
        "user_id = (SELECT p.user_id FROM messages AS p WHERE p.id = messages.parent_id)",
    ),
    "a reply after 59 seconds": message(
        "G4",
        "1 to 60 minutes",
        REPLY,
        "created_at = (SELECT p.created_at FROM messages AS p WHERE p.id = messages.parent_id) + interval '59 s'",
    ),
    "a reply after an hour and more": message(
        "G4",
        "1 to 60 minutes",
        REPLY,
        "created_at = (SELECT p.created_at FROM messages AS p WHERE p.id = messages.parent_id) "
        "+ interval '1 hour 1 microsecond'",
    ),
    "a reply of no time": message(
        "G4", "1 to 60 minutes", REPLY, "created_at = NULL", optional("messages", "created_at")
    ),
    "a reply to a message of no time": broken(
        "G4",
        "1 to 60 minutes",
        optional("messages", "created_at"),
        f"UPDATE messages SET created_at = NULL WHERE id = (SELECT parent_id FROM messages WHERE id = {REPLY})",
        f"UPDATE messages SET created_at = '2026-06-01' WHERE id = {REPLY}",
    ),
    "a reply by an account younger than the parent": broken(
        "G4",
        "both authors",
        f"""UPDATE messages SET created_at =
            (SELECT u.created_at - interval '1 microsecond' FROM messages AS r JOIN users AS u ON u.id = r.user_id
             WHERE r.id = {REPLY})
            WHERE id = (SELECT parent_id FROM messages WHERE id = {REPLY})""",
    ),
    "a reply of two sentences": message(
        "G4", "a reply is one sentence", REPLY, f"content = '{sentence(3)} {sentence(4, 3)}'"
    ),
    "a reply with a lower id than its parent's": message(
        "G5", "lower than its reply's", TOP, f"parent_id = {LAST_TOP}"
    ),
    "contents from a small pool": broken(
        "G6",
        "are distinct",
        "UPDATE messages SET content = (SELECT content FROM messages WHERE id = 1) WHERE id % 90 = 0",
    ),
    # reactions
    "no system reaction": broken("R0", "the catalogue has", "UPDATE reactions SET is_system = false"),
    "an empty catalogue": broken("R0", "the catalogue has", UNCHECKED, "DELETE FROM reactions"),
    "a fourth reaction": broken(
        "R1",
        "at most 3",
        f"""INSERT INTO message_reactions SELECT {THRICE}, r.id, m.user_id, '2026-06-01'
            FROM reactions AS r, messages AS m WHERE m.id = {THRICE} AND r.id NOT IN
            (SELECT reaction_id FROM message_reactions WHERE message_id = {THRICE}) LIMIT 1""",
    ),
    "a reaction of a user from outside": broken(
        "R2",
        "is a member",
        f"""UPDATE message_reactions SET user_id =
            (SELECT min(id) FROM users WHERE id NOT IN
             (SELECT user_id FROM user_channels AS x WHERE x.channel_id = {DM}))
            WHERE (message_id, reaction_id, user_id) =
            (SELECT r.message_id, r.reaction_id, r.user_id FROM message_reactions AS r
             JOIN messages AS m ON m.id = r.message_id WHERE m.channel_id = {DM} LIMIT 1)""",
    ),
    "a reaction of a user who is gone": reaction("R2", "is a member", "user_id = 777", UNCHECKED),
    "a reaction of nobody": reaction(
        "R2", "is a member", "user_id = NULL", keyless("message_reactions"), optional("message_reactions", "user_id")
    ),
    "reactions to a message that is gone": broken(
        "R2", "is a member", UNCHECKED, f"DELETE FROM messages WHERE id = {THRICE}", violations=3
    ),
    "a reaction of a user's own": reaction(
        "R2",
        "a system reaction of",
        "reaction_id = 999",
        "INSERT INTO reactions (id, code, is_system) VALUES (999, 'own', false)",
    ),
    "a reaction that is gone": reaction("R2", "a system reaction of", "reaction_id = 777", UNCHECKED),
    "a reaction that may be one": reaction(
        "R2",
        "a system reaction of",
        "reaction_id = 999",
        optional("reactions", "is_system"),
        "INSERT INTO reactions (id, code, is_system) VALUES (999, 'own', NULL)",
    ),
    "a reaction twice": broken(
        "R3",
        "the same reaction",
        keyless("message_reactions"),
        f"INSERT INTO message_reactions SELECT * FROM message_reactions WHERE {ONE_REACTION}",
    ),
    "a reaction before the message": reaction(
        "R4",
        "the later of",
        f"created_at = (SELECT created_at - interval '1 microsecond' FROM messages WHERE id = {REACTED})",
    ),
    "a reaction before the user's account": broken(
        "R4",
        "the later of",
        f"""UPDATE messages AS m SET created_at = u.created_at - interval '2 microseconds' FROM users AS u
            WHERE m.id = {REACTED} AND u.id = (SELECT user_id FROM message_reactions WHERE {ONE_REACTION})""",
        f"""UPDATE message_reactions AS x SET created_at = u.created_at - interval '1 microsecond' FROM users AS u
            WHERE u.id = x.user_id AND {ONE_REACTION}""",
    ),
    "a user before an earlier one": broken(
        "T1", "ids of users", "UPDATE users SET created_at = '2026-01-01' WHERE id = 50"
    ),
    "a channel before an earlier one": broken(
        "T1", "ids of channels", "UPDATE channels SET created_at = '2026-05-31 23:59:59' WHERE id = 20"
    ),
    "a message before an earlier one": broken(
        "T1", "ids of messages", "UPDATE messages SET created_at = '2026-06-01' WHERE id = 1000"
    ),
    "two DMs of one pair": broken(
        "M4",
        "no two DMs have the same",
        "CREATE TEMP TABLE dms AS SELECT id FROM channels WHERE is_dm ORDER BY id LIMIT 2",
        "DELETE FROM user_channels WHERE channel_id = (SELECT max(id) FROM dms)",
        "INSERT INTO user_channels SELECT user_id, (SELECT max(id) FROM dms) FROM user_channels "
        "WHERE channel_id = (SELECT min(id) FROM dms)",
        violations=2,
    ),
    "a reaction of later": reaction("R4", "to as_of", "created_at = '2026-06-01 00:00:00.000001'"),
    "a reaction of no time": reaction(
        "R4", "to as_of", "created_at = NULL", optional("message_reactions", "created_at")
    ),
}
