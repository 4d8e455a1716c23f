"""A database on a server belongs to one folder: the rows say where in it each file is.

A second folder, as of a node that was configured by copying, or an empty one, as of storage that is not mounted, would
look as if every image were lost.
"""

import secrets
from pathlib import Path

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.pacs.database import Database
from freezeframe.pacs.tables import Setting

MARK = "folder.id"
"""File in the folder; the database holds the same."""
_SETTING = "folder"


def check_folder(database: Database, folder: Path) -> None:
    """Compare the mark in the node's folder with the database's; both are made where neither has one.

    SQLite is not asked: it is a file in the folder itself.

    Parameters
    ----------
    database : Database
        Of the node.
    folder : Path
        Of the node, as all machines see it.

    Raises
    ------
    UserError
        If the database belongs to another folder.
    """
    if database.is_sqlite:
        return
    path = folder / MARK
    mark = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    with database.reading() as session:
        known = session.get(Setting, _SETTING)
    if known is None:
        if not mark:
            mark = secrets.token_hex(16)
            files.write_text(path, f"{mark}\n")
        with database.transaction() as session:
            session.add(Setting(name=_SETTING, value=mark))
    elif known.value != mark:
        raise UserError(
            f"The database belongs to another folder than {folder}, or that one is not mounted.",
            f"the folder in which {MARK} says {known.value}.",
            "Mount the storage, or give this node a database of its own; if the folder's files were moved on purpose, "
            f"move {MARK} with them.",
        )
