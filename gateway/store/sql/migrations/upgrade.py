"""Runs revisions with Alembic, without its command and its ini file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def run(connection: Connection, revisions: Sequence[str]) -> None:
    """Run these revisions, which follow the schema's, in the open transaction."""
    here = Path(__file__).parent
    folders = [str(path) for path in (here / "versions", *(here / "versions").glob("from_*"))]
    script = ScriptDirectory(here, version_locations=folders)

    def steps(_current: Sequence[str], _context: MigrationContext) -> list[MigrationStep]:
        return [
            MigrationStep.upgrade_from_script(script.revision_map, script.get_revision(revision))
            for revision in revisions
        ]

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()
