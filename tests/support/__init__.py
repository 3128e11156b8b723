"""What several test modules share; pytest shows the values in failed asserts of the rules as in a test's own."""

import pytest

pytest.register_assert_rewrite("support.workspace_rules")
