"""A node that pulls, with a clock of the test's own."""

import time
from pathlib import Path
from typing import Any

from configured import configured
from sqlalchemy import select

from freezeframe.pacs.database import open_database
from freezeframe.pacs.intake.keeping import Keeper
from freezeframe.pacs.tables import Image


class PullingNode:
    """A node with one source, a database and a keeper."""

    def __init__(self, folder: Path, source: dict[str, Any], **fields: Any) -> None:
        fields = {"retention": {"least_free_gigabytes": 0}, **fields}
        source = {"name": "archive", "days_back": 40000, "seconds": 60, **source}
        self.configuration = configured(folder / "node", sources=[source], **fields)
        self.source = self.configuration.sources[0]
        self.database = open_database(self.configuration)
        self.keeper = Keeper(self.database, self.configuration)
        self.now = time.time()

    def images(self) -> list[str]:
        """Return the SOP instance UIDs that are kept."""
        with self.database.reading() as session:
            return sorted(session.scalars(select(Image.sop_instance_uid)))

    def leftovers(self) -> list[Path]:
        """Return what is left of receiving."""
        return list((self.configuration.folder / "incoming").iterdir())

    def close(self) -> None:
        """Close the database."""
        self.database.close()
