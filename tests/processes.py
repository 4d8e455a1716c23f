"""Processes that tests start, as a user would."""

import os
import subprocess
import sys
from pathlib import Path


def start_study(study: Path, out: Path, workers: int = 2) -> subprocess.Popen:
    """Start a study as a user would, in a process of its own."""
    command = [sys.executable, "-m", "freezeframe", "study", "run", str(study), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "NO_COLOR": "1"},
        text=True,
    )
