"""Starting a worker as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from freezeframe import files
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import make_private


def write_configuration(configuration: NodeConfiguration) -> Path:
    """Write what workers are told into the node's folder, which only its own user may read, and return the file."""
    path = make_private(configuration.folder) / "workers.json"
    files.write_json(path, configuration.model_dump(mode="json"))
    return path


def start(configuration: Path, name: str) -> subprocess.Popen[bytes]:
    """Start a worker.

    It ends by itself when this process is gone, when a reading goes beyond its limits (exit code 3), or, after the
    reading in hand, on SIGTERM (0). Whoever starts it starts another one in its place, with the same name.

    Parameters
    ----------
    configuration : Path
        From `write_configuration`.
    name : str
        Unique among all workers of the database, such as the machine's name and a number: letters, digits, ``.-_``.
    """
    program = [sys.executable, "-m", "freezeframe.pacs.reading"]
    # Its parent may be gone before it can ask who that is.
    words = [str(configuration), name, str(os.getpid())]
    # A group of its own: Ctrl-C in a terminal is the node's to act on, also before the worker can ignore it.
    return subprocess.Popen([*program, *words], stdin=subprocess.DEVNULL, process_group=0)
