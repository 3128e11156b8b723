"""Code of a user that prints on stdout: when it is imported, and while it makes rows, in whichever process."""

from __future__ import annotations

from collections.abc import Iterator

from bulkseed import Parents, table

print("noisy is imported")


@table(follows="users", columns=["user_id"])
def noises(users: Parents) -> Iterator[tuple[int]]:
    """Prints for each block of users."""
    print("noises are made")
    for user in users:
        yield (user.id,)
