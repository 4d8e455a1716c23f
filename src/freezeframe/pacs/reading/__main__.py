"""``python -m freezeframe.pacs.reading CONFIG.json NAME [PARENT]``: one worker, started by the node."""

import os
import re
import signal
import sys
import threading
from pathlib import Path

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.reading.worker import run
from freezeframe.pacs.signals import on_signals
from freezeframe.pacs.watching import log


def main() -> int:
    """Read until SIGTERM; return the exit code."""
    path, name, *parent = sys.argv[1:]
    stop = threading.Event()
    os.umask(0o077)  # heat maps and reports are for nobody else, even where the node's folder is open
    on_signals((signal.SIGTERM,), stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the node decides what it means
    try:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
            raise UserError(f"A worker can't be called '{name}'.", "letters, digits and .-_ only.")
        configuration = NodeConfiguration.parse(files.read_json(Path(path)), path)
        log.set_up(configuration.folder, name)
        run(configuration, name, stop, int(parent[0]) if parent else None)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
