"""User status updates: five for each user, the last of which is active."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from bulkseed import Parents, table

STATUSES = [("In a meeting", "📅"), ("Commuting", "🚌"), ("Out sick", "🤒"), ("On holiday", "🌴"), ("Remotely", "🏡")]
COLUMNS = ["user_id", "status_text", "emoji", "created_at", "expires_at", "is_active"]
Status = tuple[int, str, str, datetime, datetime | None, bool]


@table(follows="users", columns=COLUMNS, rows_per_parent=5)
def user_statuses(users: Parents) -> Iterator[Status]:
    """Five for each user."""
    for user in users:
        times: list[datetime | None] = [*sorted(user.moment() for _ in range(5)), None]
        for begun, ended in pairwise(times):
            assert begun is not None
            text, emoji = user.random.choice(STATUSES)
            expires = ended and min(ended, begun + timedelta(hours=8))
            yield user.id, text, emoji, begun, expires, ended is None
