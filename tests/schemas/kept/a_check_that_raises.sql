-- options: {"defer": "auto", "copy_format": "auto", "rows_per_shard": 200, "loader": "superuser", "schema": "public", "tables": ["identity", "bigint", "timestamp", "plain"], "leaves": [], "outcome": "refused"}
ALTER TABLE message_reactions ADD CHECK (1 / (reaction_id - 2) >= 0);
