"""Files that are no images: kept in the folder `refused`, with a row that says why."""

import os
from pathlib import Path

from sqlalchemy import select

from freezeframe import files
from freezeframe.pacs.database import Database
from freezeframe.pacs.intake.keeping import REFUSED
from freezeframe.pacs.tables import Refused


def put_aside(database: Database, folder: Path, path: Path, source: str, reason: str, now: float) -> str:
    """Move a file into ``refused``; durable when it returns. The same bytes make one file and one row.

    Parameters
    ----------
    database : Database
        For the row.
    folder : Path
        The node's.
    path : Path
        A file in it that nobody writes to.
    source : str
        Where it came from.
    reason : str
        In words, without patient data.
    now : float
        Seconds since 1970.

    Returns
    -------
    str
        Its path below the node's folder: named after its SHA-256, as names of files may hold names of patients.
    """
    sha256 = files.sha256_file(path)
    place = f"{REFUSED}/{sha256[:32]}.file"
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    path.rename(folder / place)
    files.sync_folder(folder / REFUSED)
    with database.transaction() as session:
        known = session.scalars(select(Refused).where(Refused.path == place).limit(1)).first()
        if known is not None:
            known.received_at = now
        else:
            session.add(Refused(path=place, sha256=sha256, source=source, received_at=now, reason=reason))
    return place
