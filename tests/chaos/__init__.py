"""Chaos: loads that are killed, lose their connections or their server, and what remains in the database."""

import pytest

pytest.register_assert_rewrite("chaos.commands", "chaos.own_server", "chaos.world")
