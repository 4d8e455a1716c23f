"""What signals of the system ask for, done whatever the main thread is at."""

import signal
import socket
import threading
from collections.abc import Callable, Iterable


def on_signals(numbers: Iterable[signal.Signals], act: Callable[[], object]) -> None:
    """Have something done in a thread of its own, for each signal that comes; call it in the main thread.

    Python's own handlers do not do: they run only when the main thread runs Python, and one that waits for a lock is
    not woken where the system gives the signal to another thread, as it may when two come at once. And a handler that
    sets an event may interrupt the main thread while that holds the event's lock, and wait for itself for ever.

    Parameters
    ----------
    numbers : iterable of Signals
        Such as SIGTERM.
    act : callable
        What to do.
    """
    wanted = frozenset(int(number) for number in numbers)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def serve() -> None:
        with theirs:  # open as long as this thread is
            while received := ours.recv(16):
                if wanted.intersection(received):
                    act()

    threading.Thread(target=serve, name="signals", daemon=True).start()
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    for number in wanted:
        signal.signal(number, lambda *_: None)  # the byte that it leaves in the socket is enough
