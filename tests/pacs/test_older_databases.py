"""A database of an earlier release goes on."""

import pytest
from configured import configured
from sqlalchemy import Index, text

from freezeframe.pacs.database import open_database
from freezeframe.pacs.tables import SCHEMA_VERSION, Base, Setting


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_of_version_1_gets_what_it_has_not(tmp_path, kind, request):
    fields = {}
    if kind == "postgresql":
        fields["database"] = request.getfixturevalue("postgresql").new_database()
    configuration = configured(tmp_path, **fields)
    database = open_database(configuration)
    with database.transaction() as session:
        for index in _indexes():
            session.execute(text(f"DROP INDEX {index.name}"))
        session.execute(text("ALTER TABLE deliveries DROP COLUMN held_until"))
        session.get_one(Setting, "schema_version").value = "1"
    database.close()
    for _ in range(2):
        database = open_database(configuration)
        with database.transaction() as session:
            assert session.scalars(text("SELECT held_until FROM deliveries")).all() == []
            assert session.get_one(Setting, "schema_version").value == str(SCHEMA_VERSION)
            for index in _indexes():
                session.execute(text(f"DROP INDEX {index.name}"))  # which fails where it is not there
            session.rollback()
        database.close()


def _indexes() -> list[Index]:
    table = Base.metadata.tables["deliveries"]
    return [index for index in table.indexes if table.c.held_until in index.columns.values()]
