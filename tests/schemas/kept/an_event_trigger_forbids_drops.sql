-- options: {"defer": "auto", "copy_format": "auto", "rows_per_shard": 200, "loader": "superuser", "schema": "public", "tables": ["identity", "bigint", "timestamp", "plain"], "leaves": [], "outcome": "ledger-refused"}
CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no drops'; END $$;
CREATE EVENT TRIGGER forbid ON ddl_command_end WHEN TAG IN ('DROP SCHEMA') EXECUTE FUNCTION forbid();
