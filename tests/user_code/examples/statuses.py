from collections.abc import Iterator
from datetime import timedelta

from bulkseed import Parents, table

STATUSES = [("In a meeting", "📅"), ("Commuting", "🚌"), ("Out sick", "🤒"), ("On holiday", "🌴"), ("Remotely", "🏡")]
COLUMNS = ["user_id", "status_text", "emoji", "created_at", "expires_at", "is_active"]


@table(follows="users", columns=COLUMNS, rows_per_parent=5)
def user_statuses(users: Parents) -> Iterator[tuple[object, ...]]:
    """A status ends after at most eight hours, or when the next begins; the last one is active."""
    for user in users:
        begins = sorted(user.moment() for _ in range(5))
        for begin, following in zip(begins, [*begins[1:], None], strict=True):
            text, emoji = user.random.choice(STATUSES)
            end = min(begin + timedelta(hours=8), following) if following else None
            yield user.id, text, emoji, begin, end, following is None
