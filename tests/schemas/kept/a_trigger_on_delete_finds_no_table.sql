-- options: {"defer": "always", "copy_format": "auto", "rows_per_shard": 200, "loader": "superuser", "schema": "apart", "tables": ["identity", "bigint", "timestamp", "plain"], "leaves": [], "outcome": "refused"}
ALTER TABLE channels ADD message_count integer NOT NULL DEFAULT 0;
CREATE FUNCTION uncount() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE channels SET message_count = message_count - 1 WHERE id = OLD.channel_id; RETURN NULL;
END $$;
CREATE TRIGGER uncount AFTER DELETE ON messages FOR EACH ROW EXECUTE FUNCTION uncount();
