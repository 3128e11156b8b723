"""Scenario texts, and fields as a scenario gives them, that several tests use."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

EVERY_FIELD: list[Any] = [
    "faker:phone_number",
    "faker: past_datetime",
    "faker:latitude",
    "faker:nothing_or_text",
    "faker:color_rgb",
    {"faker": "simple_profile", "pool": 20},
    {"faker": "pyint", "args": {"min_value": 3, "max_value": 7}, "pool": 50},
    {"faker": "date_between", "args": {"start_date": date(2020, 2, 3), "end_date": "today"}, "pool": 20},
    {"faker": "email", "unique": True},
    {"faker": "awkward", "unique": True, "null": 0.5},
    {"choice": ["free", "pro"]},
    {"choice": ["free", "pro", "team"], "weights": [9, 1, 0.5]},
    {"choice": [1, 2.5]},
    {"choice": [["a"], [], ["b", "c"]], "null": 0.25},
    {"choice": [date(2020, 1, 1), date(1900, 1, 1)]},
    {"template": "user-{n}@{faker.domain_name}"},
    {"template": "{{{id:08}}} {name}/{is_active} {created_at} {uuid} {uuid} {faker.pyint} {faker.nothing_or_text}"},
    {"template": "none"},
    {"template": ""},
    {"value": True},
    {"value": "free"},
    {"value": ["a", "b"]},
    {"value": {"theme": "dark", "since": date(2020, 1, 1), "tabs": [1, 2]}, "null": 0.9},
    {"value": datetime(2020, 1, 1, 12, tzinfo=UTC)},
    {"value": time(12, 30)},
    {"uniform": [1, 6]},
    {"uniform": [-(2**62), 2**62 - 1]},
    {"uniform": [0.5, 2.5]},
    {"uniform": [-1, 9.99], "decimals": 2},
    {"uniform": [0, 1], "decimals": 1},
    {"uniform": [date(1950, 1, 1), date(2008, 12, 31)]},
    {"uniform": [datetime(1, 1, 1), datetime(9999, 12, 31, tzinfo=UTC)]},
    {"uniform": [time(9), time(17, 30)]},
    {"uniform": ["90 minutes", "3.5 days"]},
    {"uuid": 4},
    {"copy": "created_at", "null": 0.3},
    {"sequence": {"start": 100, "step": -5}},
    {"sequence": {}},
    {"after": "created_at", "within": "30 days"},
    {"after": "created_at"},
    {"call": "fillers:phones"},
    {"call": "fillers:is_new", "null": 0.5},
    {"call": "fillers:chunks"},
    {"call": "fillers:greetings"},
    {"call": "fillers:seconds"},
    {"call": "fillers:status", "per": "row"},
    {"call": "fillers:zoned", "per": "row"},
    {"call": "fillers:table", "per": "row"},
    {"call": "fillers:many", "per": "row"},
]

APP_SCENARIO = """
schema = "chat"

[tables]
users = "accounts"
channels = "rooms"
user_channels = "room_members"
messages = "posts"
reactions = false

[columns.users]
id = "account_id"
auth0_id = false
email = "E-Mail"
is_active = false
created_at = "joined"
name = "display_name"
picture = false
bio = false

[columns.channels]
name = "title"
description = false
owner_id = "user"
created_at = "made"

[columns.user_channels]
user_id = "account"
channel_id = "room"

[columns.messages]
content = "body"
updated_at = false
user_id = "account"
channel_id = "room"
parent_id = "thread"

[fields.users]
phone = { faker = "phone_number", unique = true }
visits = { uniform = [1, 5] }

[fields.messages]
words = { sequence = {} }

[[rules]]
name = "visits are positive"
sql = "SELECT count(*) FROM accounts WHERE visits < 0"

[[rules]]
name = "nobody visits more than twice"
sql = "SELECT count(*) FROM accounts WHERE visits > 2"
"""

UUID_SCENARIO = """
schema = "app"
plugins = ["plugins:attachments", "plugins:Scans", "plugins:Late"]
tables.reactions = false
columns.users = { auth0_id = false, email = false, is_active = false, name = false, picture = false, bio = false }
columns.channels = { name = false, description = false, join_code = false }
columns.messages = { updated_at = false }
relationships.bookmarks = { from = "users", to = "messages", min = 1, max = 2, columns = ["who", "message"] }
"""
