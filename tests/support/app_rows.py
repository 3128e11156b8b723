"""Rows of an app, to load beside."""

from __future__ import annotations

APP_ROWS = (
    """INSERT INTO users (auth0_id, email, is_active, created_at, name)
       SELECT 'app|' || n, 'app' || n || '@corp.test', true, '2020-01-01', 'App ' || n
       FROM generate_series(1, 7) AS n""",
    """INSERT INTO channels (name, owner_id, created_at, is_private, is_dm, join_code)
       SELECT 'app', id, '2020-01-02', true, false, 'APP' || id
       FROM users WHERE email LIKE 'app%' ORDER BY id LIMIT 3""",
    "INSERT INTO user_channels SELECT owner_id, id FROM channels WHERE name = 'app'",
    """INSERT INTO messages (content, created_at, updated_at, user_id, channel_id)
       SELECT 'app', '2020-01-03', '2020-01-03', owner_id, id FROM channels WHERE name = 'app'""",
    """INSERT INTO message_reactions SELECT m.id, r.id, m.user_id, '2020-01-04'
       FROM messages AS m, reactions AS r WHERE m.content = 'app' AND r.code = 'joy'""",
)
"""Statements that insert rows as an app does, with ids from its sequences."""
