"""The heart of it on the oldest PostgreSQL that this machine has installed, such as Debian's 15.

The whole suite runs there by ``python -m pytest --postgres=FOLDER``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.extend(map(str, Path(__file__).parent.glob("[!_]*/")))  # where the test modules are

from test_alembic import app, make_app, test_it_loads_and_every_rule_holds  # noqa: F401
from test_cleanup import (  # noqa: F401 - they run again here, on the server of this module
    test_cascade_takes_them_along_and_what_points_at_them,
    test_foreign_keys_in_a_circle_are_no_obstacle,
    test_takes_out_what_a_load_put_in_and_leaves_no_trace,
)
from test_connection import test_a_session_has_no_limits_of_an_app  # noqa: F401
from test_copy_formats import test_a_workspace_is_the_same_by_either_lane, test_both_lanes_load_the_same  # noqa: F401
from test_deferring import test_a_deferred_load_leaves_the_schema_as_it_was  # noqa: F401
from test_load import (  # noqa: F401
    test_loads_beside_an_apps_rows_and_beside_each_other,
    test_timestamptz_columns_get_the_same_instants,
)
from test_rebuilding import test_dump_is_the_same_after, test_foreign_keys_fire_in_the_same_order  # noqa: F401
from test_reference_schema import (  # noqa: F401
    test_each_table_is_made_with_its_indexes,
    test_names_that_are_taken,
    test_the_schema_is_this,
)
from test_target import login, test_a_login_with_just_these_rights_can_load  # noqa: F401
from test_task_order import test_locks_are_those_of_the_server  # noqa: F401
from test_undoing import (
    test_an_error_in_the_middle_is_undone as an_error_in_the_middle_is_undone,
)
from test_undoing import test_what_was_interrupted_is_in_the_way_until_it_is_undone  # noqa: F401
from test_uuids import test_sql_reads_them_back_and_no_other  # noqa: F401
from test_verify import test_judges_each_run_by_its_own_plan_beside_an_apps_rows  # noqa: F401

from bulkseed.choices import Defer
from bulkseed.embedded import Server
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection
from support.databases import make_templates
from support.installed import installed, running_with
from support.obstacles import CHECK, FAIL
from support.server_homes import home_for

FOUND = installed()

pytestmark = pytest.mark.skipif(
    not FOUND, reason="no PostgreSQL 14 or newer is installed beside the wheel's (Debian: apt install postgresql)"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """In place of the session's: the oldest server of the machine's own."""
    with home_for("oldest", tmp_path_factory) as home, running_with(home, FOUND[min(FOUND)]) as started:
        yield started


@pytest.fixture(scope="module")
def templates(server: Server) -> dict[str, str]:
    return make_templates(server)


@pytest.mark.parametrize(
    ("defer", "obstacle", "said"),
    [("always", FAIL, "message_reactions.*no more"), ("never", CHECK, "messages_id_check")],
)
async def test_an_error_in_the_middle_is_undone(
    database: Address, server: Server, defer: Defer, obstacle: str, said: str
) -> None:
    await an_error_in_the_middle_is_undone(database, server, 2, defer, obstacle, said)


async def test_it_is_that_version(connection: Connection) -> None:
    assert connection.get_server_version().major == min(FOUND)
    assert re.match(rf"PostgreSQL {min(FOUND)}\b", await connection.fetchval("SELECT version()"))
