-- options: {"defer": "always", "copy_format": "auto", "rows_per_shard": 200, "loader": "superuser", "schema": "public", "tables": ["identity", "bigint", "timestamp", "plain"], "leaves": [], "outcome": "refused"}
ALTER TABLE channels ADD made boolean GENERATED ALWAYS AS (is_private AND NOT is_dm) STORED UNIQUE;
