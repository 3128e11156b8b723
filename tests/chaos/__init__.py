"""Chaos: a load that is killed, cut off or left alone by its server, and what comes of it."""

import pytest

pytest.register_assert_rewrite("chaos.commands", "chaos.own_server", "chaos.world")
