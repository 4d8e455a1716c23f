"""What signals of the system ask for, done where it can't stand in its own way."""

import queue
import signal
import threading
from collections.abc import Callable, Iterable


def on_signals(numbers: Iterable[signal.Signals], act: Callable[[], object]) -> None:
    """Have something done in a thread of its own, once for each signal that comes; call it in the main thread.

    A handler interrupts the main thread anywhere, also while that, or an earlier handler, holds a lock: to set an event
    in it may wait for ever for itself. Of what Python has only `queue.SimpleQueue.put` is made for that.

    Parameters
    ----------
    numbers : iterable of Signals
        Such as SIGTERM.
    act : callable
        What to do.
    """
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()

    def serve() -> None:
        while True:
            asked.get()
            act()

    threading.Thread(target=serve, name="signals", daemon=True).start()
    for number in numbers:
        signal.signal(number, lambda *_: asked.put(None))
