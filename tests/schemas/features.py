# ruff: noqa: E501 - a statement is a line
"""What a generated schema may have beside its tables: each strategy makes parts of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from schemas.case import Feature

TABLES: Final = ("users", "channels", "user_channels", "messages", "message_reactions")

LOADED: Final = {
    "users": ["id", "auth0_id", "email", "is_active", "created_at", "name", "picture", "bio"],
    "channels": ["id", "name", "description", "owner_id", "created_at", "is_private", "is_dm", "join_code"],
    "user_channels": ["user_id", "channel_id"],
    "messages": ["id", "content", "created_at", "updated_at", "user_id", "channel_id", "parent_id"],
    "message_reactions": ["message_id", "reaction_id", "user_id", "created_at"],
}
"""The columns of each table."""

tables = st.sampled_from(TABLES)

# --- columns ---------------------------------------------------------------------------------------------------------

COLUMNS: Final = [
    ("visits", "integer", "0", "{ uniform = [1, 6] }"),
    ("rank", "smallint", "1", "{ uniform = [1, 9] }"),
    ("total", "bigint", "0", "{ sequence = {} }"),
    ("price", "numeric(8,2)", "1.5", "{ uniform = [0.5, 99.5], decimals = 2 }"),
    ("rate", "double precision", "0.5", "{ uniform = [0, 1] }"),
    ("share", "real", "0.5", "{ uniform = [0.0, 1.0] }"),
    ("label", "text", "'none'", "{ template = 'name {n}' }"),
    ("handle", "varchar(20)", "''", "{ template = 'u-{n}' }"),
    ("code", "char(4)", "'abcd'", "{ value = 'abcd' }"),
    ("flag", "boolean", "false", "{ value = true }"),
    ("birthday", "date", "current_date", "{ uniform = [1950-01-01, 2008-12-31] }"),
    ("seen", "timestamptz", "now()", "{ uniform = [2020-01-01T00:00:00Z, 2020-12-31T00:00:00Z] }"),
    ("token", "uuid", "gen_random_uuid()", "{ uuid = 4 }"),
    ("settings", "jsonb", "'{}'", "{ value = { theme = 'dark' } }"),
    ("raw", "json", "'[]'", "{ value = { theme = 'dark' } }"),
    ("tags", "text[]", "'{}'", "{ choice = [['a'], ['b', 'c']] }"),
    ("numbers", "integer[]", "'{1}'", "{ choice = [[1], [2, 3]] }"),
    ("address", "inet", "'10.0.0.1'", "{ value = '192.0.2.7' }"),
    ("net", "cidr", "'10.0.0.0/8'", "{ value = '192.0.2.0/24' }"),
    ("mac", "macaddr", "'08:00:2b:01:02:03'", "{ value = '08:00:2b:01:02:04' }"),
    ("hash", "bytea", "'\\x00'", "{ value = '\\x00ff' }"),
    ("bits", "bit(3)", "B'101'", "{ choice = ['101', '010'] }"),
    ("span", "interval", "'1 day'", "{ uniform = ['30 minutes', '2 days'] }"),
    ("wakes", "time", "'09:00'", "{ uniform = [05:30:00, 09:00:00] }"),
    ("ages", "int4range", "'[1,5)'", "{ choice = ['[18,25)', '[25,)'] }"),
    ("period", "tstzrange", "'[2020-01-01,)'", "{ value = '[2020-01-01,)' }"),
    ("spans", "int4multirange", "'{}'", "{ value = ['[1,3)', '[5,9)'] }"),
    ("words", "tsvector", "''", "{ value = \"'user':1A\" }"),
    ("place", "point", "'(0,0)'", None),
    ("cash", "money", "0", None),
    ("doc", "xml", None, None),
    ("bits2", "varbit", "B'1'", "{ value = '1' }"),
    ("mood", "mood", "'happy'", "{ choice = ['happy', 'sad'] }"),
    ("moods", "mood[]", "'{happy}'", "{ value = ['sad'] }"),
    ("home", "home", "ROW('A', 1)", "{ value = { street = 'Long Street', floor = 2 } }"),
    ("score", "positive", "5", "{ uniform = [1, 6] }"),
    ("scored", "scored", None, "{ uniform = [1, 6] }"),
    ("slug", "slug", "'a'", "{ template = 'slug-{n}' }"),
    ("nick", "citext", "'a'", "{ template = 'Nick {n}' }"),
    ("sound", "text COLLATE ci", "'a'", "{ template = 'Sound {n}' }"),
    ('Odd "name"', "text", "'a'", "{ template = 'odd {n}' }"),
]
"""Name, type, default, and field."""

TYPES: Final = """
DO $do$ BEGIN IF to_regtype('mood') IS NULL THEN
    CREATE TYPE mood AS ENUM ('happy', 'sad');
    CREATE TYPE home AS (street text, floor int);
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
    CREATE DOMAIN scored AS positive DEFAULT 7 NOT NULL;
    CREATE DOMAIN slug AS varchar(40) CHECK (VALUE ~ '^[a-z0-9-]+$');
    CREATE EXTENSION citext;
    CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
END IF; END $do$;
"""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def toml_key(name: str) -> str:
    return "'" + name + "'"


@st.composite
def columns(draw: st.DrawFn) -> Feature:
    """A further column: filled by a field, by its default, or not at all."""
    table = draw(tables)
    name, type, default, field = draw(st.sampled_from(COLUMNS))
    has_default = default is not None and draw(st.booleans())
    has_field = field is not None and draw(st.booleans())
    not_null = draw(st.booleans())
    more = draw(st.sampled_from(["", "", "", "UNIQUE", "CHECK ({c} IS NOT NULL)", "CHECK ({c}::text <> 'x')"]))
    sql = f"ALTER TABLE {table} ADD {quoted(name)} {type}"
    sql += f" DEFAULT {default}" if has_default else ""
    sql += " NOT NULL" if not_null else ""
    sql += " " + more.format(c=quoted(name)) + ";"
    return Feature(TYPES + sql, {table: {toml_key(name): str(field)}} if has_field else {})


GENERATED: Final = {
    "users": ["text GENERATED ALWAYS AS (lower(email)) {kind}", "integer GENERATED ALWAYS AS (length(name)) {kind}"],
    "channels": ["boolean GENERATED ALWAYS AS (is_private AND NOT is_dm) {kind}"],
    "user_channels": ["text GENERATED ALWAYS AS (user_id::text || '-' || channel_id::text) {kind}"],
    "messages": [
        "tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) {kind}",
        "integer GENERATED ALWAYS AS (length(content)) {kind}",
        "char(32) GENERATED ALWAYS AS (md5(content)) {kind}",
    ],
    "message_reactions": ["text GENERATED ALWAYS AS (message_id::text) {kind}"],
}


@st.composite
def generated_columns(draw: st.DrawFn) -> Feature:
    """A generated column, stored or virtual, perhaps with an index, a CHECK, or NOT NULL."""
    table = draw(tables)
    made = draw(st.sampled_from(GENERATED[table])).format(kind=draw(st.sampled_from(["STORED", "VIRTUAL"])))
    more = draw(st.sampled_from(["", "NOT NULL", "CHECK (made IS NOT NULL)", "UNIQUE"]))
    index = draw(st.sampled_from(["", f"CREATE INDEX ON {table} (made);"]))
    return Feature(f"ALTER TABLE {table} ADD made {made} {more}; {index}")


CHANGES: Final = [
    "ALTER TABLE users ALTER email TYPE text",
    "ALTER TABLE users ALTER email TYPE citext",
    "ALTER TABLE users ALTER email TYPE varchar(255) COLLATE ci",
    "ALTER TABLE users ALTER email TYPE varchar(30)",
    'ALTER TABLE users ALTER email TYPE text COLLATE "C"',
    "ALTER TABLE users ALTER auth0_id TYPE char(64)",
    "ALTER TABLE users ALTER name TYPE name",
    "ALTER TABLE users ALTER name TYPE varchar(5)",
    "ALTER TABLE users ALTER bio SET NOT NULL",
    "ALTER TABLE users ALTER bio TYPE jsonb USING to_jsonb(bio)",
    "ALTER TABLE users ALTER picture DROP NOT NULL",
    "ALTER TABLE users ALTER created_at SET DEFAULT now()",
    "ALTER TABLE users ALTER is_active SET DEFAULT true",
    "ALTER TABLE users ALTER is_active TYPE integer USING is_active::int",
    "ALTER TABLE channels ALTER description SET NOT NULL",
    "ALTER TABLE channels ALTER join_code TYPE char(8)",
    "ALTER TABLE channels ALTER join_code TYPE citext",
    "ALTER TABLE channels ALTER name TYPE slug",
    "ALTER TABLE channels ALTER owner_id DROP NOT NULL",
    "ALTER TABLE messages ALTER content TYPE varchar(100)",
    "ALTER TABLE messages ALTER content TYPE jsonb USING to_jsonb(content)",
    "ALTER TABLE messages ALTER updated_at DROP NOT NULL",
    "ALTER TABLE messages ALTER created_at TYPE timestamptz(3)",
    "ALTER TABLE messages ALTER created_at TYPE text",
    "ALTER TABLE messages ALTER content SET STORAGE EXTERNAL",
    "ALTER TABLE messages ALTER content SET COMPRESSION pglz",
    "ALTER TABLE messages ADD moved integer; ALTER TABLE messages DROP moved",
    "ALTER TABLE users DROP picture",
    "ALTER TABLE users ALTER id TYPE numeric",
    "ALTER TABLE message_reactions DROP CONSTRAINT message_reactions_pkey",
    "ALTER TABLE user_channels DROP CONSTRAINT user_channels_pkey",
    "ALTER TABLE user_channels DROP CONSTRAINT user_channels_pkey; ALTER TABLE user_channels "
    "ADD id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ADD UNIQUE (user_id, channel_id)",
    "ALTER TABLE user_channels DROP CONSTRAINT user_channels_pkey; "
    "ALTER TABLE user_channels ADD PRIMARY KEY (channel_id, user_id)",
    "ALTER TABLE users ADD CONSTRAINT bio_there NOT NULL bio NOT VALID",
    "ALTER TABLE users ADD COLUMN number serial UNIQUE",
    "ALTER TABLE users ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY (INCREMENT -1) UNIQUE",
    "ALTER SEQUENCE users_id_seq MAXVALUE 20",
    "ALTER SEQUENCE users_id_seq INCREMENT -1",
    "ALTER SEQUENCE users_id_seq OWNED BY NONE",
    "ALTER TABLE users ALTER id DROP IDENTITY",
    "ALTER TABLE users RENAME id TO user_id",
    "DELETE FROM reactions",
    "DROP TABLE message_reactions",
    "DROP TABLE user_channels CASCADE; CREATE VIEW user_channels AS SELECT 1 AS user_id, 1 AS channel_id",
]

changes = st.sampled_from(CHANGES).map(lambda sql: Feature(TYPES + sql + ";"))
"""Columns, keys and sequences of the tables that are otherwise than bulkseed's."""

# --- indexes ---------------------------------------------------------------------------------------------------------

EXPRESSIONS: Final = {
    "users": [
        "lower(email)", "(email || name)", "coalesce(bio, '')", "date_part('year', created_at)", "md5(auth0_id)", "name",
        "email text_pattern_ops", "is_active", 'name COLLATE "C"', "id", "created_at",
    ],
    "channels": ["lower(name)", "owner_id", "coalesce(description, '')", "join_code", "is_dm", "created_at", "id"],
    "user_channels": ["user_id", "channel_id", "(user_id::text)", "(channel_id::text || user_id::text)"],
    "messages": ["md5(content)", "left(content, 10)", "created_at", "updated_at", "user_id", "parent_id", "id"],
    "message_reactions": ["created_at", "reaction_id", "(user_id::text)", "message_id"],
}  # fmt: skip
METHODS: Final = {
    "users": [
        "USING hash (email)", "USING gin (to_tsvector('english', coalesce(bio, ''))) WITH (fastupdate = off)",
        "USING gist (to_tsvector('english', name) tsvector_ops (siglen = 100))", "USING brin (created_at)",
        "USING spgist (name)", "USING brin (created_at) WITH (pages_per_range = 7, autosummarize = on)",
        "USING spgist (email) WITH (fillfactor = 60)",
    ],
    "channels": ["USING hash (name)", "USING brin (created_at)", "USING gist (box(point(1, 2), point(3, 4)))"],
    "user_channels": ["USING hash (user_id)", "USING brin (user_id)"],
    "messages": [
        "USING gin (to_tsvector('english', content))", "USING gin (string_to_array(content, ' '))",
        "USING brin (created_at)", "USING hash (content)", "USING spgist (content)",
    ],
    "message_reactions": ["USING brin (created_at)", "USING hash (message_id)"],
}  # fmt: skip
ENDS: Final = {
    "users": ["", "", "INCLUDE (name)", "WHERE is_active", "WHERE bio IS NOT NULL", "WITH (fillfactor = 71)"],
    "channels": ["", "", "INCLUDE (name)", "WHERE NOT is_dm", "WITH (deduplicate_items = off)"],
    "user_channels": ["", "INCLUDE (channel_id)"],
    "messages": ["", "", "WHERE parent_id IS NULL", "INCLUDE (user_id)", "WHERE length(content) > 20"],
    "message_reactions": ["", "WHERE reaction_id = 1"],
}
SUFFIXES: Final = ["", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"]


@st.composite
def indexes(draw: st.DrawFn) -> Feature:
    """An index of any method, of columns or expressions, perhaps partial or unique."""
    table = draw(tables)
    end = draw(st.sampled_from(ENDS[table]))
    if draw(st.integers(0, 2)) == 2:
        return Feature(f"CREATE INDEX ON {table} {draw(st.sampled_from(METHODS[table]))} {end};")
    keys = draw(st.lists(st.sampled_from(EXPRESSIONS[table]), min_size=1, max_size=3, unique=True))
    shown = ", ".join(key + draw(st.sampled_from(SUFFIXES)) for key in keys)
    has_id = "id" in keys
    unique = draw(st.sampled_from(["", "UNIQUE"])) if has_id else ""
    nulls = " NULLS NOT DISTINCT" if unique and not end and draw(st.booleans()) else ""
    return Feature(f"CREATE {unique} INDEX ON {table} ({shown}){nulls} {end};")


UNIQUES: Final = [
    "CREATE UNIQUE INDEX ON users (lower(email))",
    "CREATE UNIQUE INDEX ON users (lower(name))",
    "CREATE UNIQUE INDEX ON users (name)",
    "CREATE UNIQUE INDEX ON users (bio) NULLS NOT DISTINCT",
    "CREATE UNIQUE INDEX ON users (md5(email), is_active)",
    "CREATE UNIQUE INDEX ON users ((email::text))",
    "CREATE UNIQUE INDEX ON users (date_trunc('day', created_at))",
    "CREATE UNIQUE INDEX ON channels (lower(name)) WHERE NOT is_dm",
    "CREATE UNIQUE INDEX ON channels (owner_id) WHERE is_dm",
    "CREATE UNIQUE INDEX ON channels (join_code) NULLS NOT DISTINCT",
    "CREATE UNIQUE INDEX ON messages (channel_id, created_at, user_id)",
    "CREATE UNIQUE INDEX ON messages (md5(content))",
    "CREATE UNIQUE INDEX ON messages (parent_id)",
    "CREATE UNIQUE INDEX ON user_channels (channel_id, user_id)",
    "CREATE UNIQUE INDEX ON message_reactions (message_id, user_id)",
]
unique_indexes = st.sampled_from(UNIQUES).map(lambda sql: Feature(sql + ";"))
"""Unique indexes, most of which the rows break."""

INDEX_OPTIONS: Final = [
    "COMMENT ON INDEX users_pkey IS 'it''s a \\ comment'",
    "ALTER TABLE users CLUSTER ON users_email_key",
    "ALTER TABLE users REPLICA IDENTITY USING INDEX users_email_key",
    "ALTER TABLE messages REPLICA IDENTITY FULL",
    "ALTER TABLE messages REPLICA IDENTITY NOTHING",
    "ALTER INDEX messages_user_id_idx SET (fillfactor = 55)",
    "CREATE INDEX named ON users (lower(name)); ALTER INDEX named ALTER COLUMN 1 SET STATISTICS 321",
    'ALTER INDEX messages_user_id_idx RENAME TO "My index\'s ""name"""',
    "COMMENT ON CONSTRAINT users_email_key ON users IS 'one account each'",
    'ALTER TABLE users RENAME CONSTRAINT users_pkey TO "%I {x} %s"',
    "CREATE INDEX bad ON users (name); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'bad'::regclass",
    "CREATE UNIQUE INDEX taken ON channels (id, name); ALTER TABLE channels ADD CONSTRAINT taken_key UNIQUE USING INDEX taken",
    "ALTER TABLE users ADD CONSTRAINT both UNIQUE (id, email) INCLUDE (name) WITH (fillfactor = 80)",
    "ALTER TABLE users ADD CONSTRAINT later UNIQUE (id, name) DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE users ADD CONSTRAINT later UNIQUE NULLS NOT DISTINCT (id, bio) DEFERRABLE",
    "ALTER TABLE users DROP CONSTRAINT users_email_key; ALTER TABLE users ADD UNIQUE (email) DEFERRABLE",
    "ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE; ALTER TABLE users ADD PRIMARY KEY (id) DEFERRABLE",
    "ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE; ALTER TABLE users ADD PRIMARY KEY (id) INCLUDE (email)",
    "ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE",
    "ALTER TABLE messages DROP CONSTRAINT messages_pkey CASCADE",
]
index_options = st.sampled_from(INDEX_OPTIONS).map(lambda sql: Feature(sql + ";"))
"""Attributes of indexes and keys."""

DEPENDING: Final = [
    "CREATE VIEW by_user AS SELECT u.id, u.email, u.name FROM users AS u GROUP BY u.id",
    "CREATE VIEW active AS SELECT * FROM users WHERE is_active WITH CHECK OPTION",
    "CREATE MATERIALIZED VIEW talk AS SELECT channel_id, count(*) FROM messages GROUP BY 1",
    "CREATE MATERIALIZED VIEW talk AS SELECT u.id, u.name, count(*) FROM users AS u JOIN messages AS m "
    "ON m.user_id = u.id GROUP BY u.id; CREATE UNIQUE INDEX ON talk (id)",
    "CREATE FUNCTION put() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO reactions (code, is_system) VALUES "
    "('x', true) ON CONFLICT ON CONSTRAINT reactions_code_key DO NOTHING; END",
    "CREATE FUNCTION put() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO user_channels (user_id, channel_id) "
    "SELECT user_id, channel_id FROM messages ON CONFLICT ON CONSTRAINT user_channels_pkey DO NOTHING; END",
    "CREATE FUNCTION put() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO user_channels (user_id, channel_id) "
    "SELECT user_id, channel_id FROM messages ON CONFLICT (user_id, channel_id) DO NOTHING; END",
    "CREATE FUNCTION names(users) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1.name'",
    "CREATE STATISTICS pairs (ndistinct, mcv) ON channel_id, user_id FROM messages",
    "CREATE STATISTICS expressed ON lower(name), email FROM users; ALTER STATISTICS expressed SET STATISTICS 50",
    "COMMENT ON TABLE users IS 'people'; COMMENT ON COLUMN users.email IS 'how to reach them'",
    "ALTER TABLE messages SET (fillfactor = 70, autovacuum_enabled = off, toast_tuple_target = 200)",
    "ALTER TABLE messages ALTER user_id SET STATISTICS 500, ALTER channel_id SET (n_distinct = -0.1)",
    "ALTER TABLE users SET (user_catalog_table = on)",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
    "GRANT SELECT ON users TO PUBLIC; GRANT UPDATE (name) ON users TO PUBLIC",
    "CREATE TYPE of_user AS (id bigint, name text); CREATE TABLE typed OF of_user",
    "CREATE TABLE followers (LIKE user_channels INCLUDING ALL)",
    "CREATE EXTENSION btree_gist; CREATE EXTENSION pg_trgm; CREATE INDEX ON users USING gin (name gin_trgm_ops); "
    "CREATE INDEX ON users USING gist (id, name)",
    "CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple); "
    "CREATE INDEX ON messages USING gin (to_tsvector('plain', content))",
    "CREATE FUNCTION short(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT left($1, 20) $$; "
    "CREATE INDEX ON users (short(name))",
    "CREATE FUNCTION helper(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(t) $$; "
    "CREATE FUNCTION norm(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN helper(t); END $$; "
    "CREATE INDEX ON users (norm(name))",
    "CREATE FUNCTION low(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN "
    "IF t = '' THEN RAISE 'empty'; END IF; RETURN lower(t); END $$; CREATE INDEX ON users (low(name)) WHERE low(name) > 'a'",
    "CREATE OPERATOR CLASS back FOR TYPE text USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, "
    "OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 bttextcmp(text, text); CREATE INDEX ON users (name back)",
    "CREATE COLLATION numeric_order (provider = icu, locale = 'en-u-kn'); CREATE INDEX ON users (name COLLATE numeric_order)",
    "CREATE UNIQUE INDEX pair_of ON users (email, id); CREATE TABLE logged (email varchar(255), id bigint, "
    "FOREIGN KEY (email, id) REFERENCES users (email, id))",
    "CREATE UNIQUE INDEX again ON users (id); CREATE INDEX ON users (id, email, name)",
    "CREATE TABLE stays (room integer, during daterange, PRIMARY KEY (room, during WITHOUT OVERLAPS)); "
    "CREATE TABLE guests (room integer, during daterange, FOREIGN KEY (room, PERIOD during) REFERENCES stays "
    "(room, PERIOD during)); INSERT INTO stays VALUES (1, '[2020-01-01,2021-01-01)')",
    "CREATE VIEW people AS SELECT * FROM users; CREATE RULE ins AS ON INSERT TO people DO INSTEAD "
    "INSERT INTO users VALUES (NEW.*)",
    "CREATE INDEX ON ONLY messages (updated_at)",
    "ALTER TABLE users SET UNLOGGED",
    "CREATE POLICY p ON users; GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC",
    "ALTER TABLE messages SET ACCESS METHOD heap; VACUUM FULL messages",
    "CREATE FUNCTION next_code() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT md5(random()::text) $$; "
    "ALTER TABLE users ADD code text NOT NULL DEFAULT next_code() UNIQUE",
    "CREATE AGGREGATE longest (text) (SFUNC = textcat, STYPE = text, INITCOND = ''); "
    "CREATE CAST (boolean AS bytea) WITHOUT FUNCTION",
    "CREATE TABLE kept_ids (id bigint PRIMARY KEY) WITH (fillfactor = 50); INSERT INTO kept_ids VALUES (1), (2)",
]
depending = st.sampled_from(DEPENDING).map(lambda sql: Feature(sql + ";"))
"""Objects beside the tables: some of them depend on keys, and some indexes depend on them."""

# --- constraints -----------------------------------------------------------------------------------------------------

CHECKS: Final = [
    "ALTER TABLE users ADD CHECK (length(name) > 0)",
    "ALTER TABLE users ADD CONSTRAINT \"odd {name} %s\" CHECK (email LIKE '%@%')",
    "ALTER TABLE users ADD CHECK (email = lower(email)) NOT VALID",
    "ALTER TABLE users ADD CHECK (name ~ '^[A-Z]') NOT VALID",
    "ALTER TABLE users ADD CHECK (length(name) < 10)",
    "ALTER TABLE users ADD CHECK (length(name) < 10) NOT VALID",
    "ALTER TABLE users ADD CHECK (created_at < now())",
    "ALTER TABLE users ADD CHECK (id IS NOT NULL) NO INHERIT",
    "ALTER TABLE users ADD CHECK (users IS NOT NULL)",
    "ALTER TABLE channels ADD CHECK (NOT (is_dm AND is_private))",
    "ALTER TABLE channels ADD CHECK (is_dm OR join_code IS NOT NULL)",
    "ALTER TABLE channels ADD CHECK (description IS NOT NULL OR true)",
    "ALTER TABLE messages ADD CHECK (updated_at >= created_at)",
    "ALTER TABLE messages ADD CHECK (updated_at > created_at)",
    "ALTER TABLE messages ADD CHECK (id IS DISTINCT FROM parent_id)",
    "ALTER TABLE messages ADD CHECK (content <> '') NOT ENFORCED",
    "ALTER TABLE messages ADD CHECK (length(content) < 3) NOT ENFORCED",
    "ALTER TABLE messages ADD CHECK (length(content) < 3) NOT VALID",
    "ALTER TABLE message_reactions ADD CHECK (reaction_id < 100)",
    "ALTER TABLE message_reactions ADD CHECK (1 / (reaction_id - 2) >= 0)",
]
checks = st.sampled_from(CHECKS).map(lambda sql: Feature(sql + ";"))
"""CHECK constraints: some hold for each row, some do not, some are NOT VALID or NOT ENFORCED."""

EXCLUSIONS: Final = [
    "ALTER TABLE messages ADD CONSTRAINT no_two EXCLUDE USING hash (id WITH =)",
    "ALTER TABLE messages ADD EXCLUDE USING btree (id WITH =) DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE channels ADD EXCLUDE USING btree (join_code WITH =) WHERE (join_code IS NOT NULL)",
    "ALTER TABLE users ADD EXCLUDE USING hash (email WITH =)",
    "ALTER TABLE users ADD EXCLUDE USING btree (lower(name) WITH =)",
    "ALTER TABLE users ADD EXCLUDE USING btree (is_active WITH =)",
    "CREATE EXTENSION IF NOT EXISTS btree_gist; ALTER TABLE user_channels ADD EXCLUDE USING gist "
    "(user_id WITH =, channel_id WITH =)",
    "CREATE EXTENSION IF NOT EXISTS btree_gist; ALTER TABLE messages ADD EXCLUDE USING gist "
    "(user_id WITH =, tsrange(created_at::timestamp, created_at::timestamp, '[]') WITH &&)",
]
exclusions = st.sampled_from(EXCLUSIONS).map(lambda sql: Feature(sql + ";"))
"""Exclusion constraints, some of which the rows break."""

# --- foreign keys ----------------------------------------------------------------------------------------------------

REFERENCES: Final = [
    ("channels", "owner_id", "users"),
    ("messages", "user_id", "users"),
    ("messages", "channel_id", "channels"),
    ("messages", "parent_id", "messages"),
    ("user_channels", "user_id", "users"),
    ("user_channels", "channel_id", "channels"),
    ("message_reactions", "message_id", "messages"),
    ("message_reactions", "user_id", "users"),
    ("message_reactions", "reaction_id", "reactions"),
]
ACTIONS: Final = ["", "NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"]
TIMES: Final = [
    "", "", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED", "NOT VALID", "NOT ENFORCED", "DEFERRABLE INITIALLY DEFERRED NOT VALID",
]  # fmt: skip


@st.composite
def foreign_keys(draw: st.DrawFn) -> Feature:
    """One of the tables' foreign keys, made otherwise, or missing, or there twice."""
    table, column, parent = draw(st.sampled_from(REFERENCES))
    name = f"{table}_{column}_fkey"
    how = draw(st.sampled_from(["replaced", "replaced", "replaced", "missing", "twice", "unindexed"]))
    if how == "missing":
        return Feature(f"ALTER TABLE {table} DROP CONSTRAINT {name};")
    on_delete, on_update = draw(st.sampled_from(ACTIONS)), draw(st.sampled_from(ACTIONS))
    options = " ".join(
        [
            draw(st.sampled_from(["", "", "MATCH FULL"])),
            on_delete and f"ON DELETE {on_delete}",
            on_update and f"ON UPDATE {on_update}",
            draw(st.sampled_from(TIMES)),
        ]
    )
    drop = "" if how == "twice" else f"ALTER TABLE {table} DROP CONSTRAINT {name}; "
    new = f"{name}2" if how == "twice" else name
    return Feature(
        f"{drop}ALTER TABLE {table} ADD CONSTRAINT {new} FOREIGN KEY ({column}) REFERENCES {parent} {options};"
    )


@st.composite
def app_tables(draw: st.DrawFn) -> Feature:
    """A table of the app's own that references a loaded one, perhaps with rows, perhaps without an index."""
    parent = draw(st.sampled_from(["users", "channels", "messages"]))
    options = " ".join(
        [
            draw(st.sampled_from(["", *(f"ON DELETE {action}" for action in ACTIONS if action)])),
            draw(st.sampled_from(TIMES)),
        ]
    )
    index = draw(st.sampled_from(["", "CREATE INDEX ON notes (note_of);"]))
    fill = draw(st.booleans())
    rows = f"INSERT INTO notes (note_of) SELECT id FROM {parent};" if fill else ""
    kind = draw(st.sampled_from(["", "UNLOGGED "]))
    type = f"(SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{parent}'::regclass AND attname = 'id')"
    return Feature(
        f"""
DO $do$ BEGIN
    EXECUTE 'CREATE {kind}TABLE notes (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note_of ' || {type} ||
        ' REFERENCES {parent} {options}, note text)';
END $do$;
{index} {rows}"""
    )


COMPOSITE: Final = [
    "ALTER TABLE users ADD CONSTRAINT pair UNIQUE (id, email); CREATE TABLE logins (user_id {id}, email varchar(255), "
    "FOREIGN KEY (user_id, email) REFERENCES users (id, email) {action})",
    "CREATE TABLE pins (user_id {id}, channel_id {id}, "
    "FOREIGN KEY (user_id, channel_id) REFERENCES user_channels (user_id, channel_id) {action})",
    "CREATE TABLE pins (user_id {id}, channel_id {id}, FOREIGN KEY (user_id, channel_id) "
    "REFERENCES user_channels (user_id, channel_id) MATCH FULL ON UPDATE CASCADE DEFERRABLE)",
    "CREATE TABLE pins (user_id {id}, channel_id {id}, FOREIGN KEY (user_id, channel_id) "
    "REFERENCES user_channels (user_id, channel_id) ON DELETE SET NULL (channel_id))",
    "CREATE TABLE by_email (email varchar(255) REFERENCES users (email) {action})",
    "CREATE TABLE by_code (code varchar(8) REFERENCES channels (join_code) {action})",
    "ALTER TABLE users ADD best_friend {id} REFERENCES users {action}",
    "ALTER TABLE users ADD home_channel {id} REFERENCES channels {action}",
    "ALTER TABLE channels ADD last_message {id} REFERENCES messages {action}",
    "ALTER TABLE messages ADD FOREIGN KEY (user_id, channel_id) REFERENCES user_channels (user_id, channel_id) {action}",
]


@st.composite
def composite_keys(draw: st.DrawFn) -> Feature:
    """Composite foreign keys, keys to other columns than id, and cycles."""
    action = draw(st.sampled_from(["", "ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE RESTRICT"]))
    sql = draw(st.sampled_from(COMPOSITE)).format(id="%s", action=action)
    count = sql.count("%s")
    types = ", (SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'id')"
    return Feature(f"DO $do$ BEGIN EXECUTE format($sql${sql}$sql${types * count}); END $do$;")


WORKSPACES: Final = [
    Feature(
        "CREATE TABLE workspaces (id integer PRIMARY KEY); INSERT INTO workspaces VALUES (1), (2);"
        "ALTER TABLE users ADD workspace_id integer REFERENCES workspaces;",
        {"users": {"workspace_id": "{ choice = [1, 2] }"}},
    ),
    Feature(
        "CREATE TABLE workspaces (id integer PRIMARY KEY); INSERT INTO workspaces VALUES (1), (2);"
        "ALTER TABLE users ADD workspace_id integer NOT NULL DEFAULT 1 REFERENCES workspaces ON DELETE CASCADE;"
        "ALTER TABLE channels ADD workspace_id integer NOT NULL DEFAULT 1 REFERENCES workspaces ON DELETE CASCADE;"
        "CREATE INDEX ON users (workspace_id);"
    ),
    Feature(
        "CREATE TABLE workspaces (id integer PRIMARY KEY); INSERT INTO workspaces VALUES (1), (2);"
        "ALTER TABLE users ADD workspace_id integer REFERENCES workspaces;",
        {"users": {"workspace_id": "{ choice = [1, 3] }"}},
    ),
]
workspaces = st.sampled_from(WORKSPACES)
"""Foreign keys of further columns to a table of the app's own."""

JUDGED: Final = [
    Feature(
        "ALTER TABLE users ADD workspace_id integer NOT NULL DEFAULT 1, ADD UNIQUE (workspace_id, id);"
        "ALTER TABLE channels ADD workspace_id integer NOT NULL, "
        "ADD FOREIGN KEY (workspace_id, owner_id) REFERENCES users (workspace_id, id);",
        {"users": {"workspace_id": "{ value = 1 }"}, "channels": {"workspace_id": "{ value = 1 }"}},
    ),
    Feature(
        "ALTER TABLE channels ADD owner_email varchar(255) REFERENCES users (email);",
        {"channels": {"owner_email": "{ value = 'nobody@example.org' }"}},
    ),
    Feature(
        "CREATE FUNCTION known(text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT length($1) > 0 $$;"
        "ALTER TABLE users ADD CHECK (known(email));"
    ),
    Feature(
        "CREATE FUNCTION is_member(anyelement, anyelement) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN "
        "RETURN EXISTS (SELECT FROM users WHERE id = $1); END $$;"
        "ALTER TABLE channels ADD CHECK (is_member(owner_id, owner_id));"
    ),
    Feature(
        "CREATE FUNCTION loud(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'never %', $1; END $$;"
        "ALTER TABLE users ADD CHECK (loud(email)) NOT VALID;"
    ),
]
judged = st.sampled_from(JUDGED)
"""What can only be judged with the rows of the load itself."""

RELATIONSHIP: Final = (
    'relationships.bookmarks = { from = "users", to = "messages", min = 1, max = 2, columns = ["who", "message"] }'
)


@st.composite
def relationships(draw: st.DrawFn) -> Feature:
    """A table of one's own that the scenario fills."""
    key = draw(st.sampled_from(["PRIMARY KEY (who, message)", "UNIQUE (who, message)", "CHECK (true)"]))
    references = draw(st.sampled_from(["REFERENCES {0}", "REFERENCES {0} ON DELETE CASCADE", ""]))
    surrogate = draw(st.sampled_from(["", "id bigserial, ", "id uuid DEFAULT gen_random_uuid(), "]))
    at = draw(st.sampled_from(["", ", at timestamptz NOT NULL"]))
    users, messages = references.format("users"), references.format("messages")
    type = "(SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'id')"
    return Feature(
        "DO $do$ BEGIN EXECUTE format($sql$CREATE TABLE bookmarks "
        f"({surrogate}who %s NOT NULL {users}, message %s NOT NULL {messages}{at}, {key})$sql$, {type}, {type});"
        " END $do$;",
        {"bookmarks": {"at": "{ uniform = [2020-01-01T00:00:00Z, 2020-12-31T00:00:00Z] }"}} if at else {},
        scenario=RELATIONSHIP,
    )


# --- triggers, rules, publications, row security ----------------------------------------------------------------------


def trigger(table: str, when: str, level: str, body: str, *, more: str = "", kind: str = "TRIGGER") -> str:
    """Return the SQL of a trigger and its function."""
    name = f"{table}_{len(body)}_{len(when)}"
    return (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        f"CREATE {kind} {name} {when} ON {table} {more} FOR EACH {level} EXECUTE FUNCTION {name}();"
    )


QUEUE: Final = "CREATE TABLE IF NOT EXISTS queue (at timestamptz DEFAULT now(), job text);"
COUNT: Final = "ALTER TABLE channels ADD IF NOT EXISTS message_count integer NOT NULL DEFAULT 0;"

TRIGGERS: Final = [
    Feature(
        COUNT
        + trigger(
            "messages", "AFTER INSERT", "ROW",
            "UPDATE channels SET message_count = message_count + 1 WHERE id = NEW.channel_id; RETURN NULL;",
        )
    ),
    Feature(
        COUNT
        + trigger(
            "messages", "BEFORE DELETE", "ROW",
            "UPDATE channels SET message_count = message_count - 1 WHERE id = OLD.channel_id; RETURN OLD;",
        )
    ),
    Feature(
        COUNT
        + trigger(
            "messages", "AFTER DELETE", "ROW",
            "UPDATE channels SET message_count = message_count - 1 WHERE id = OLD.channel_id; RETURN NULL;",
        )
    ),
    Feature(
        COUNT
        + trigger(
            "messages", "AFTER INSERT", "STATEMENT",
            "UPDATE channels AS c SET message_count = message_count + n.number "
            "FROM (SELECT channel_id, count(*) AS number FROM new_rows GROUP BY 1) AS n WHERE n.channel_id = c.id; "
            "RETURN NULL;",
            more="REFERENCING NEW TABLE AS new_rows",
        )
    ),
    Feature(
        QUEUE + trigger("users", "AFTER INSERT", "ROW", "INSERT INTO queue (job) VALUES (NEW.email); RETURN NULL;"),
        leaves=("queue",),
    ),
    Feature(
        QUEUE
        + trigger("users", "AFTER INSERT OR UPDATE OR DELETE", "STATEMENT", "INSERT INTO queue (job) VALUES (TG_OP); RETURN NULL;"),
        leaves=("queue",),
    ),
    Feature(
        QUEUE + trigger("users", "BEFORE TRUNCATE", "STATEMENT", "RAISE 'never'; RETURN NULL;"), leaves=("queue",)
    ),
    Feature(
        QUEUE
        + trigger(
            "messages", "AFTER INSERT", "ROW", "INSERT INTO queue (job) VALUES (NEW.content); RETURN NULL;",
            kind="CONSTRAINT TRIGGER", more="DEFERRABLE INITIALLY DEFERRED",
        ),
        leaves=("queue",),
    ),
    Feature(
        "ALTER TABLE messages ADD words tsvector NOT NULL;"
        + trigger("messages", "BEFORE INSERT", "ROW", "NEW.words = to_tsvector('english', NEW.content); RETURN NEW;")
    ),
    Feature(
        "ALTER TABLE users ADD slugged text NOT NULL UNIQUE;"
        + trigger("users", "BEFORE INSERT", "ROW", "NEW.slugged = 's-' || NEW.id; RETURN NEW;")
    ),
    Feature(
        "ALTER TABLE users ADD slugged text NOT NULL;"
        + trigger("users", "BEFORE INSERT", "ROW", "NEW.name = NEW.name; RETURN NEW;")
    ),
    Feature(
        "ALTER TABLE users ADD noted timestamptz;"
        + trigger("users", "BEFORE INSERT OR UPDATE", "ROW", "NEW.noted = now(); RETURN NEW;")
    ),
    Feature(
        "ALTER TABLE users ADD search tsvector; CREATE TRIGGER fill BEFORE INSERT OR UPDATE ON users FOR EACH ROW "
        "EXECUTE FUNCTION tsvector_update_trigger(search, 'pg_catalog.english', name, email);"
    ),
    Feature("CREATE TRIGGER same BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();"),
    Feature(trigger("users", "BEFORE INSERT", "ROW", "RAISE 'closed'; RETURN NEW;")),
    Feature(trigger("messages", "BEFORE INSERT", "ROW", "IF NEW.parent_id IS NOT NULL THEN RAISE 'closed'; END IF; RETURN NEW;")),
    Feature(trigger("messages", "BEFORE DELETE", "ROW", "RAISE 'kept for ever'; RETURN OLD;")),
    Feature(trigger("users", "AFTER DELETE", "STATEMENT", "RAISE 'kept for ever'; RETURN NULL;")),
    Feature(trigger("message_reactions", "BEFORE DELETE", "ROW", "RETURN NULL;")),
    Feature(trigger("user_channels", "BEFORE INSERT", "ROW", "RETURN NULL;")),
    Feature(trigger("users", "BEFORE INSERT", "ROW", "RETURN NEW;") + "ALTER TABLE users DISABLE TRIGGER ALL;"),
    Feature(
        trigger("users", "BEFORE DELETE", "ROW", "RAISE 'kept'; RETURN OLD;") + "ALTER TABLE users DISABLE TRIGGER USER;"
    ),
    Feature(
        trigger("users", "BEFORE DELETE", "ROW", "RAISE 'kept'; RETURN OLD;").replace("FOR EACH ROW", "FOR EACH ROW WHEN (OLD.name = 'x')")
    ),
    Feature("ALTER TABLE messages DISABLE TRIGGER ALL;"),
    Feature(trigger("users", "AFTER INSERT", "ROW", "RAISE 'not in a replica'; RETURN NULL;") + "ALTER TABLE users ENABLE REPLICA TRIGGER users_43_12;"),
    Feature(trigger("users", "AFTER INSERT", "ROW", "RETURN NULL;") + "ALTER TABLE users ENABLE ALWAYS TRIGGER users_12_12;"),
    Feature(QUEUE + trigger("messages", "AFTER INSERT", "ROW", "INSERT INTO queue (job) VALUES ('reply'); RETURN NULL;").replace("FOR EACH ROW", "FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL)"), leaves=("queue",)),
    Feature("ALTER TABLE users ADD last_seen timestamptz;" + trigger("messages", "AFTER INSERT", "ROW", "UPDATE users SET last_seen = greatest(last_seen, NEW.created_at) WHERE id = NEW.user_id; RETURN NULL;")),
    Feature("ALTER TABLE messages ADD replies integer NOT NULL DEFAULT 0;" + trigger("messages", "AFTER INSERT OR DELETE", "ROW", "UPDATE messages SET replies = replies + CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END WHERE id = CASE TG_OP WHEN 'INSERT' THEN NEW.parent_id ELSE OLD.parent_id END; RETURN NULL;")),
    Feature("CREATE TABLE profiles (user_id text PRIMARY KEY, note text);" + trigger("users", "AFTER INSERT OR DELETE", "ROW", "IF TG_OP = 'INSERT' THEN INSERT INTO profiles VALUES (NEW.id::text); ELSE DELETE FROM profiles WHERE user_id = OLD.id::text; END IF; RETURN NULL;")),
    Feature(
        trigger("messages", "BEFORE DELETE", "ROW", "DELETE FROM message_reactions WHERE message_id = OLD.id; RETURN OLD;")
    ),
    Feature(
        trigger("users", "AFTER INSERT", "ROW", "PERFORM pg_notify('users', NEW.email); RETURN NULL;")
    ),
    Feature(
        QUEUE + trigger("users", "AFTER DELETE", "ROW", "INSERT INTO queue (job) VALUES ('gone ' || OLD.email); RETURN NULL;"),
        leaves=("queue",),
    ),
    Feature(
        trigger(
            "user_channels", "AFTER INSERT", "ROW",
            "IF NOT EXISTS (SELECT FROM users WHERE id = NEW.user_id) THEN RAISE 'no user'; END IF; RETURN NULL;",
            kind="CONSTRAINT TRIGGER",
        )
    ),
]  # fmt: skip


triggers = st.sampled_from(TRIGGERS)
"""Triggers that count, fill, refuse, or write elsewhere."""


def event_trigger(event: str, body: str, tags: str = "") -> Feature:
    when = f"WHEN TAG IN ({tags})" if tags else ""
    return Feature(
        QUEUE + f"CREATE FUNCTION on_{event}() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        f"CREATE EVENT TRIGGER on_{event} ON {event} {when} EXECUTE FUNCTION on_{event}();",
        leaves=("queue",),
    )


LOG: Final = "INSERT INTO queue (job) VALUES (tg_tag);"
EVENT_TRIGGERS: Final = [
    event_trigger("ddl_command_start", "RAISE 'no indexes';", "'CREATE INDEX'"),
    event_trigger("ddl_command_end", "RAISE 'no indexes';", "'CREATE INDEX'"),
    event_trigger("ddl_command_start", "RAISE 'no changes';", "'ALTER TABLE'"),
    event_trigger("ddl_command_start", "RAISE 'no drops';", "'DROP INDEX'"),
    event_trigger("sql_drop", "RAISE 'no drops';"),
    event_trigger(
        "sql_drop", "INSERT INTO queue (job) SELECT object_identity FROM pg_event_trigger_dropped_objects();"
    ),
    event_trigger("ddl_command_end", LOG),
    event_trigger("ddl_command_start", "RAISE 'no schemas';", "'CREATE SCHEMA'"),
    event_trigger("ddl_command_start", "RAISE 'no tables';", "'CREATE TABLE'"),
    event_trigger("ddl_command_end", "RAISE 'no drops';", "'DROP SCHEMA'"),
    event_trigger("ddl_command_end", "RAISE 'no drops';", "'DROP TABLE'"),
    event_trigger("table_rewrite", "RAISE 'no rewrites';"),
    event_trigger("ddl_command_end", "RAISE 'no comments';", "'COMMENT'"),
]
event_triggers = st.sampled_from(EVENT_TRIGGERS)
"""Event triggers that forbid or log changes of the schema."""

RULES: Final = [
    Feature("CREATE RULE keep AS ON DELETE TO users DO INSTEAD NOTHING;"),
    Feature(
        "CREATE RULE keep AS ON DELETE TO messages DO INSTEAD UPDATE messages SET content = '' WHERE id = OLD.id;",
    ),
    Feature("CREATE RULE tell AS ON DELETE TO messages DO ALSO NOTIFY gone;"),
    Feature(QUEUE + "CREATE RULE log AS ON INSERT TO users DO ALSO INSERT INTO queue (job) VALUES (NEW.email);"),
    Feature(QUEUE + "CREATE RULE log AS ON UPDATE TO users DO ALSO INSERT INTO queue (job) VALUES (NEW.email);"),
    Feature("CREATE RULE none AS ON INSERT TO message_reactions DO INSTEAD NOTHING;"),
    Feature("CREATE RULE off AS ON DELETE TO users DO INSTEAD NOTHING; ALTER TABLE users DISABLE RULE off;"),
]
rules = st.sampled_from(RULES)
"""Rules."""

PUBLICATIONS: Final = [
    "CREATE PUBLICATION p FOR ALL TABLES",
    "CREATE PUBLICATION p FOR TABLE users, messages",
    "CREATE PUBLICATION p FOR TABLE users (id, email) WHERE (is_active)",
    "CREATE PUBLICATION p FOR TABLE users WHERE (id IS NOT NULL) WITH (publish = 'insert')",
    "CREATE PUBLICATION p FOR TABLE users WHERE (email LIKE '%') WITH (publish = 'insert, delete')",
    "CREATE PUBLICATION p FOR TABLES IN SCHEMA public",
    "ALTER TABLE user_channels DROP CONSTRAINT user_channels_pkey; CREATE PUBLICATION p FOR TABLE user_channels",
    "ALTER TABLE user_channels DROP CONSTRAINT user_channels_pkey; "
    "CREATE PUBLICATION p FOR TABLE user_channels WITH (publish = 'insert')",
    "ALTER TABLE users REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE users",
    "ALTER TABLE users REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE users",
    "CREATE PUBLICATION p FOR TABLE messages WITH (publish_via_partition_root = true)",
]
publications = st.sampled_from(PUBLICATIONS).map(lambda sql: Feature(sql + ";"))
"""Publications, some of which forbid deletions."""

SECURITY: Final = [
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY; ALTER TABLE users FORCE ROW LEVEL SECURITY",
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON users USING (true)",
    "ALTER TABLE messages ENABLE ROW LEVEL SECURITY; ALTER TABLE messages FORCE ROW LEVEL SECURITY; "
    "CREATE POLICY p ON messages USING (content <> 'x') WITH CHECK (true)",
    "CREATE TABLE secrets (user_id text); ALTER TABLE secrets ENABLE ROW LEVEL SECURITY; "
    "ALTER TABLE secrets FORCE ROW LEVEL SECURITY",
    "CREATE POLICY unused ON users FOR SELECT USING (false)",
    "REVOKE ALL ON users FROM PUBLIC",
]
row_security = st.sampled_from(SECURITY).map(lambda sql: Feature(sql + ";"))
"""Row security."""

NAMES: Final = [
    Feature(
        'ALTER TABLE users RENAME TO "User ""Accounts""";',
        scenario="""tables.users = 'User "Accounts"'""",
    ),
    Feature(
        'ALTER TABLE messages RENAME content TO "Body {x}";', scenario="columns.messages = { content = 'Body {x}' }"
    ),
    Feature("ALTER TABLE channels DROP description;", scenario="columns.channels = { description = false }"),
    Feature(
        "ALTER TABLE users DROP bio, DROP picture, ADD bio jsonb;",
        {"users": {"bio": "{ value = { theme = 'dark' } }"}},
        scenario="columns.users = { bio = false, picture = false }",
    ),
    Feature("DROP TABLE message_reactions; DROP TABLE reactions;", scenario="tables.reactions = false"),
    Feature("DROP TABLE message_reactions;", scenario="tables.message_reactions = false"),
    Feature('ALTER TABLE user_channels RENAME TO "%s"; ALTER TABLE "%s" RENAME user_id TO "userId";',
            scenario="tables.user_channels = '%s'\ncolumns.user_channels = { user_id = 'userId' }"),
]  # fmt: skip
names = st.sampled_from(NAMES)
"""Other names of tables and columns, and some that are missing."""

FAMILIES: Final = [
    Feature("ALTER TABLE user_channels RENAME TO old; CREATE TABLE user_channels (LIKE old, PRIMARY KEY (user_id, channel_id)) PARTITION BY HASH (channel_id); CREATE TABLE user_channels_0 PARTITION OF user_channels FOR VALUES WITH (MODULUS 1, REMAINDER 0); DROP TABLE old CASCADE;"),
    Feature("ALTER TABLE message_reactions RENAME TO old; CREATE TABLE message_reactions (LIKE old, PRIMARY KEY (message_id, reaction_id, user_id)) PARTITION BY LIST (reaction_id); CREATE TABLE message_reactions_1 PARTITION OF message_reactions FOR VALUES IN (1); CREATE TABLE message_reactions_rest PARTITION OF message_reactions DEFAULT; DROP TABLE old CASCADE; ALTER TABLE message_reactions ADD FOREIGN KEY (message_id) REFERENCES messages ON DELETE CASCADE; CREATE INDEX ON message_reactions (user_id);"),
    Feature("ALTER TABLE message_reactions RENAME TO old; CREATE TABLE message_reactions (LIKE old, PRIMARY KEY (message_id, reaction_id, user_id)) PARTITION BY LIST (reaction_id); CREATE TABLE message_reactions_1 PARTITION OF message_reactions FOR VALUES IN (1); DROP TABLE old CASCADE;"),
    Feature("CREATE TABLE entities (created_at timestamp NOT NULL, note text); ALTER TABLE users ADD note text; ALTER TABLE users INHERIT entities;"),
    Feature("CREATE TABLE old_messages () INHERITS (messages);"),
    Feature("CREATE TABLE old_users (LIKE users INCLUDING ALL) INHERITS (users); INSERT INTO old_users (id, auth0_id, email, is_active, created_at, name) SELECT id, auth0_id, email, is_active, created_at, name FROM ONLY users;"),
    Feature("CREATE TABLE stamps (user_id integer, at timestamptz, PRIMARY KEY (user_id, at)) PARTITION BY RANGE (at); CREATE TABLE stamps_1 PARTITION OF stamps DEFAULT;"),
]  # fmt: skip
families = st.sampled_from(FAMILIES)
"""Inheritance, and partitioned tables of the app's own."""

KINDS: Final[Mapping[str, SearchStrategy[Feature]]] = {
    "column": columns(),
    "generated column": generated_columns(),
    "change": changes,
    "index": indexes(),
    "unique index": unique_indexes,
    "index option": index_options,
    "depending": depending,
    "check": checks,
    "exclusion": exclusions,
    "foreign key": foreign_keys(),
    "app table": app_tables(),
    "composite key": composite_keys(),
    "workspace": workspaces,
    "relationship": relationships(),
    "trigger": triggers,
    "event trigger": event_triggers,
    "rule": rules,
    "publication": publications,
    "row security": row_security,
    "judged with the rows": judged,
    "family": families,
    "name": names,
}
"""The strategies by the kind of what they make."""
