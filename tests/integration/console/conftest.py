"""Which tests of pages run on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import Settings
from tests.support.postgres import DATABASES, settings_with_database

# Their pages sum, filter or page through rows with SQL that differs by database. All statements are
# tested on both in tests/integration/store; the other pages only show what these return.
ON_BOTH = frozenset(
    {
        "activity.test_agreement",
        "activity.test_billing",
        "activity.test_own_limits",
        "activity.test_requests",
        "activity.test_statement",
        "activity.test_usage",
        "admin_api.test_admin_pages",
        "operators.test_accounts",
        "operators.test_audit",
        "operators.test_margins",
        "operators.test_requests",
        "operators.test_simulator",
        "test_status_days",
    }
)


@pytest.fixture
def sql_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with a database, as in other tests, of the kinds that are chosen below."""
    return settings_with_database(request, tmp_path)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on SQLite alone unless its module is one of ON_BOTH."""
    _, _, name = metafunc.module.__name__.partition("integration.console.")
    if "sql_settings" in metafunc.fixturenames:
        kinds = DATABASES if name in ON_BOTH else DATABASES[:1]
        metafunc.parametrize("sql_settings", kinds, indirect=True)
