"""Triggers and constraints of an app that make a load fail in the middle.

They refuse rows once there is a ledger: the trial before a first load does not meet them.
"""

from __future__ import annotations

FAIL = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.message_id > 900 AND to_regnamespace('bulkseed') IS NOT NULL THEN RAISE 'no more'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail BEFORE INSERT ON message_reactions FOR EACH ROW EXECUTE FUNCTION fail();
"""
CHECK = "ALTER TABLE messages ADD CHECK (id < 2500 OR to_regnamespace('bulkseed') IS NULL)"
GUEST = """
CREATE FUNCTION guest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO channels (name, owner_id, created_at, is_private, is_dm)
    SELECT 'app', max(id), now(), false, false FROM users;
    RETURN NULL;
END $$;
CREATE TRIGGER guest AFTER INSERT ON channels WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION guest();
"""
"""Rows of an app that reference seeded rows while a load inserts them."""
