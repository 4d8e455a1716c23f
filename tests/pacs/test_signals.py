"""Signals that come at moments at which Python's own handlers would wait for ever."""

import subprocess
import sys

import pytest

BEGINNING = """
import os, signal, threading
from freezeframe.pacs.signals import on_signals

ended, both = threading.Event(), (signal.SIGTERM, signal.SIGINT)
on_signals(both, ended.set)
"""
WITHIN_A_WAIT = """
with ended._cond:  # as in the midst of its `set` or `wait`
    for number in both:
        os.kill(os.getpid(), number)
"""
GIVEN_TO_ANOTHER_THREAD = """
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, both)  # so the system gives them to another thread
threading.Timer(0.5, lambda: [os.kill(os.getpid(), number) for number in both]).start()
"""
END = """
ended.wait()
print("ended")
"""


@pytest.mark.parametrize("moment", [WITHIN_A_WAIT, GIVEN_TO_ANOTHER_THREAD])
def test_a_signal_is_acted_on_whatever_the_main_thread_is_at(moment):
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + moment + END],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "ended\n"
