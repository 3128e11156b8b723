-- options: {"defer": "always", "copy_format": "auto", "rows_per_shard": 200, "loader": "superuser", "schema": "public", "tables": ["identity", "bigint", "timestamp", "plain"], "leaves": [], "outcome": "refused"}
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER skip BEFORE INSERT ON user_channels FOR EACH ROW EXECUTE FUNCTION skip();
