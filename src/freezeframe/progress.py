"""Progress of whatever takes over two seconds: what, how many, how long still."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True)
SECONDS_BETWEEN_LINES = 15.0


Listener = Callable[[str, int, int, str], None]
_listeners: list[Listener] = []


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Tell somebody else of all progress while the block runs, instead of showing it.

    Parameters
    ----------
    listener : callable
        Called with what is being done, how many are done, how many there are, and of what.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def say(message: str) -> None:
    """Print a line for the person who waits, on standard error, above any bar."""
    console.print(message, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress(what: str, total: int | None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; call what is yielded with the number that was finished.

    In a terminal it is a bar; elsewhere (a log, a notebook's output) a line now and then.

    Parameters
    ----------
    what : str
        What is being done, such as ``"Decoding"``.
    total : int or None
        How many there are; None where that is only found out.
    unit : str
        Of what.

    Examples
    --------
    >>> with progress("Counting", total=2) as advance:
    ...     advance(1)
    ...     advance(1)
    """
    if _listeners:
        yield _telling(_listeners[-1], what, total or 0, unit)
        return
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            _Rate(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=console, transient=False) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return

    start = last = time.monotonic()
    done = 0
    lock = threading.Lock()

    def advance(count: int) -> None:
        nonlocal done, last
        with lock:
            done += count
            now = time.monotonic()
            if now - last >= SECONDS_BETWEEN_LINES and done:
                last = now
                rate = done / (now - start)
                ahead = f" of {total:,}" if total is not None else ""
                left = f", {duration((total - done) / rate)} left" if total is not None else ""
                say(f"{what}: {done:,}{ahead} {unit}, {_per_second(rate)}{left}")

    yield advance
    if time.monotonic() - start >= 2:
        say(f"{what}: {done:,} {unit} in {duration(time.monotonic() - start)}")


class _Rate(ProgressColumn):
    """How many in a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _per_second(speed), style="progress.data.speed")


def _per_second(rate: float) -> str:
    return f"{rate:,.{0 if rate >= 100 else 1}f}/s"


def _telling(listener: Listener, what: str, total: int, unit: str) -> Callable[[int], None]:
    done = 0
    lock = threading.Lock()

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            listener(what, done, total, unit)

    return advance


def duration(seconds: float) -> str:
    """Write a duration as a person would.

    Examples
    --------
    >>> duration(3.24), duration(75), duration(7300)
    ('3.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Write a number of bytes as a person would.

    Examples
    --------
    >>> size(512), size(3_100_000_000)
    ('512 B', '3.1 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
