-- options: {"defer": "always", "copy_format": "auto", "rows_per_shard": 200, "loader": "superuser", "schema": "public", "tables": ["identity", "bigint", "timestamp", "plain"], "leaves": [], "outcome": "refused"}
CREATE UNIQUE INDEX ON channels (join_code) NULLS NOT DISTINCT;
