"""A schema with each kind of index and key, and each of their attributes."""

from __future__ import annotations

MUSEUM = """
CREATE SCHEMA app;
CREATE FUNCTION app.short(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT left($1, 20) $$;
CREATE COLLATION app."Numbers" FROM "C";

CREATE INDEX users_lower ON users (lower(email) text_pattern_ops, app.short(name) DESC NULLS LAST)
    INCLUDE (id, name) WITH (fillfactor = 71) WHERE is_active AND created_at > '2020-02-03 04:05:06';
ALTER INDEX users_lower ALTER COLUMN 1 SET STATISTICS 321;
ALTER INDEX users_lower ALTER COLUMN 2 SET STATISTICS 0;
COMMENT ON INDEX users_lower IS 'it''s a \\ comment';
CREATE UNIQUE INDEX "Users ""odd"" name" ON users (name COLLATE app."Numbers" DESC, id) NULLS NOT DISTINCT;
CREATE INDEX users_hash ON users USING hash (auth0_id);
CREATE INDEX users_brin ON users USING brin (created_at) WITH (pages_per_range = 7);
CREATE INDEX users_gin ON users USING gin (to_tsvector('english', coalesce(bio, ''))) WITH (fastupdate = off);
CREATE INDEX users_gist ON users USING gist (to_tsvector('english', name) tsvector_ops (siglen = 100))
    WITH (buffering = off);
CREATE STATISTICS app.pairs (ndistinct) ON lower(name), id FROM users;
CREATE UNIQUE INDEX users_identity ON users (email, id);
ALTER TABLE users REPLICA IDENTITY USING INDEX users_identity;
ALTER TABLE users CLUSTER ON "Users ""odd"" name";
COMMENT ON CONSTRAINT users_email_key ON users IS 'one account each';
COMMENT ON INDEX users_email_key IS 'the index behind it';
ALTER TABLE users DROP CONSTRAINT users_auth0_id_key;
ALTER TABLE users ADD CONSTRAINT users_auth0_id_key UNIQUE NULLS NOT DISTINCT (auth0_id) INCLUDE (name)
    WITH (fillfactor = 80) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE channels ADD CONSTRAINT "channels, named" UNIQUE (id, name) DEFERRABLE;
ALTER TABLE channels CLUSTER ON channels_join_code_key;
ALTER TABLE message_reactions REPLICA IDENTITY FULL;
ALTER TABLE messages ADD CONSTRAINT messages_no_overlap EXCLUDE USING hash (id WITH =);
COMMENT ON CONSTRAINT messages_parent_id_fkey ON messages IS 'replies';
ALTER TABLE messages DROP CONSTRAINT messages_user_id_fkey;
ALTER TABLE messages ADD CONSTRAINT messages_user_id_fkey FOREIGN KEY (user_id) REFERENCES users
    ON UPDATE CASCADE ON DELETE RESTRICT DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE users ADD COLUMN best_friend bigint CONSTRAINT users_friend REFERENCES users ON DELETE SET NULL;

CREATE TABLE app.bookmarks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL, channel_id bigint, message_id bigint NOT NULL,
    CONSTRAINT bookmarks_pair FOREIGN KEY (user_id, channel_id) REFERENCES public.user_channels (user_id, channel_id)
        ON DELETE SET NULL (channel_id),
    CONSTRAINT bookmarks_message FOREIGN KEY (message_id) REFERENCES public.messages ON DELETE CASCADE
);
CREATE INDEX bookmarks_message ON app.bookmarks (message_id);
CREATE TABLE app.audit (user_id bigint, name text, identity_email varchar, identity_id bigint);
INSERT INTO app.audit VALUES (-17, 'orphan', NULL, NULL);
ALTER TABLE app.audit ADD CONSTRAINT audit_user FOREIGN KEY (user_id) REFERENCES public.users ON DELETE SET DEFAULT
    NOT VALID;
ALTER TABLE app.audit ADD CONSTRAINT audit_identity FOREIGN KEY (identity_email, identity_id)
    REFERENCES public.users (email, id) MATCH FULL;
COMMENT ON CONSTRAINT audit_user ON app.audit IS 'not valid';
"""
