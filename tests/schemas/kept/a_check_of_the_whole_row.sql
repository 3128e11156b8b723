-- options: {"defer": "always", "copy_format": "auto", "rows_per_shard": 200, "loader": "superuser", "schema": "public", "tables": ["identity", "bigint", "timestamp", "plain"], "leaves": [], "outcome": "refused"}
ALTER TABLE users ADD CHECK (users IS NOT NULL);
