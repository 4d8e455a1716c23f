"""Signals that come while the main thread holds the lock of what they set."""

import subprocess
import sys

PROGRAM = """
import os, signal, threading
from freezeframe.pacs.signals import on_signals

ended = threading.Event()
on_signals((signal.SIGTERM, signal.SIGINT), ended.set)
with ended._cond:  # as in the midst of its `set` or `wait`
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
ended.wait()
print("ended")
"""


def test_a_signal_within_another_or_within_a_wait_does_not_wait_for_itself():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "ended\n"
