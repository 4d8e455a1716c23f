"""Isolated worker processes: a file that crashes, hangs or swells its decoder costs that one image, not the job.

They are plain Python processes that talk over a socket. `multiprocessing` would import the caller's main module again
in each, which repeats scripts without a main guard and fails in notebooks.
"""

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from freezeframe import machine
from freezeframe.errors import FreezeframeError
from freezeframe.imaging import messages
from freezeframe.imaging.image import UnreadableImage
from freezeframe.progress import progress

if TYPE_CHECKING:
    from freezeframe.data.manifest import ImageReference

Result = TypeVar("Result")

# Decoding the largest image that is accepted (see image.MAX_PIXELS) takes some 3 GB as floating point.
MEMORY_LIMIT = 4 * 1024**3
START_TIMEOUT = 120.0
CHUNK = 4
MOST_COMPLAINT = 1_000_000
_HARMLESS_COUNT, _HARMLESS_BYTES = 16, 1_000_000


def map_images(
    function: Callable[[Any], Result],
    references: "Iterable[ImageReference]",
    what: str = "Decoding",
    workers: int | None = None,
    timeout: float = 60,
    total: int | None = None,
) -> Iterator[tuple[int, Result | UnreadableImage]]:
    """Apply a function to images in worker processes, in order and with bounded memory.

    An image whose function raises, hangs, needs more than `MEMORY_LIMIT` of address space, or takes its process down
    twice in a row gives an `UnreadableImage`; the process is replaced and the rest goes on. At most two chunks of
    `CHUNK` images a worker are in flight, so memory is flat. The processes have one thread each and die with this
    one, also when it is killed.

    Parameters
    ----------
    function : callable
        Takes an image reference (``path``, ``frame``) and returns what `messages.encode` can write, an array or a small
        dataclass for instance; its annotation says which. It must be importable: at the top level of a module that
        is not ``__main__``, or a `functools.partial` of such a one.
    references : iterable of ImageReference
        The images; of an iterator few are taken ahead of the outcomes.
    what : str
        Title of the progress bar.
    workers : int, optional
        Number of processes. Where left out: one a core, or none for a few small JPEG and PNG files.
    timeout : float
        Most seconds for one image.
    total : int, optional
        Number of references, where they have no length.

    Yields
    ------
    (int, result or UnreadableImage)
        Index and outcome of each reference, in order.

    Raises
    ------
    FreezeframeError
        If the function can't be imported by a worker, or workers can't be started.
    """
    total = len(references) if isinstance(references, Sequence) else total
    if total is None:
        raise TypeError("references without a length need `total`")
    if total <= _HARMLESS_COUNT:
        references = list(references)
    with progress(what, total) as advance:
        if workers is None and isinstance(references, Sequence) and _harmless(references):
            outcomes = _in_this_process(function, references)
        else:
            count = min(workers or machine.available_cores(), -(-total // CHUNK))
            outcomes = _in_pool(function, references, count, timeout)
        with closing(outcomes):
            for outcome in outcomes:
                yield outcome
                advance(1)


def _pickled(function: Callable[..., Any]) -> bytes:
    inner = getattr(function, "func", function)  # of a functools.partial
    if getattr(inner, "__module__", None) == "__main__":
        raise FreezeframeError(
            f"Worker processes can't import {inner!r} from the main script or notebook: put it into a module."
        )
    try:
        return pickle.dumps(function)
    except Exception as error:
        raise FreezeframeError(f"Worker processes can't be given {function!r}: {error}") from error


def _harmless(references: "Sequence[ImageReference]") -> bool:
    """Tell whether they are so few, so small and of such formats that a pool costs more than it protects from."""
    if len(references) > _HARMLESS_COUNT:
        return False
    for reference in references:
        try:
            if Path(reference.path).stat().st_size > _HARMLESS_BYTES:
                return False
            with Path(reference.path).open("rb") as handle:
                head = handle.read(132)
        except OSError:
            continue  # the function will say what is wrong with it
        if not head.startswith((b"\xff\xd8\xff", b"\x89PNG")) or head[128:] == b"DICM":
            return False
    return True


def _in_this_process(
    function: Callable[[Any], Result], references: "Sequence[ImageReference]"
) -> Generator[tuple[int, Result | UnreadableImage], None, None]:
    for index, reference in enumerate(references):
        try:
            yield index, function(reference)
        except UnreadableImage as error:
            yield index, error
        except Exception as error:
            yield index, UnreadableImage(reference.path, f"it failed with {type(error).__name__}: {error}")


def _in_pool(
    function: Callable[[Any], Result], references: "Iterable[ImageReference]", workers: int, timeout: float
) -> Generator[tuple[int, Any], None, None]:
    with closing(Pool(function, workers, timeout)) as pool:
        yield from pool.map(references)


class Pool:
    """Worker processes that stay from one call to the next, with the promises of `map_images`.

    Parameters
    ----------
    function : callable
        As of `map_images`.
    workers : int
        Number of processes. They start with the first images.
    timeout : float
        Most seconds for one image.
    memory_limit : int
        Most bytes of address space of one process.
    answer_limit : int, optional
        Most bytes of one result; the memory limit where left out.

    Raises
    ------
    FreezeframeError
        If the function can't be given to other processes.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        workers: int,
        timeout: float = 60,
        memory_limit: int = MEMORY_LIMIT,
        answer_limit: int | None = None,
    ) -> None:
        self._tasks: queue.SimpleQueue[list[tuple[int, ImageReference]] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        limits = _Limits(timeout, memory_limit, answer_limit or memory_limit)
        pickled = _pickled(function)
        self._workers = [
            _Worker(
                pickled,
                messages.OutcomeDecoder(function),
                self._tasks,
                self._outcomes,
                self._stopping,
                limits,
            )
            for _ in range(workers)
        ]
        for worker in self._workers:
            worker.thread.start()

    def map(self, references: "Iterable[ImageReference]") -> Generator[tuple[int, Any], None, None]:
        """Yield index and outcome of each reference, in order.

        Take all of them before the next call; the pool is closed where they are not all taken, or workers can't be
        started.

        Raises
        ------
        FreezeframeError
            If the function can't be imported by a worker, workers can't be started, or the pool was closed.
        """
        if self._stopping.is_set():
            raise FreezeframeError("The pool of worker processes is closed.")
        waiting: dict[int, Any] = {}
        numbered = enumerate(references)
        index, sent, exhausted = 0, 0, False
        try:
            while True:
                while not exhausted and sent - index < 2 * CHUNK * len(self._workers):
                    chunk = list(islice(numbered, CHUNK))
                    exhausted = len(chunk) < CHUNK
                    if chunk:
                        self._tasks.put(chunk)
                        sent += len(chunk)
                if index == sent:
                    return
                while index not in waiting:
                    position, outcome = self._outcomes.get()
                    if position < 0:
                        raise outcome
                    waiting[position] = outcome
                yield index, waiting.pop(index)
                index += 1
        finally:
            if not exhausted or index < sent:
                self.close()

    def close(self) -> None:
        """End the processes, whatever they do."""
        self._stopping.set()
        for worker in self._workers:
            self._tasks.put(None)
            worker.kill()
        for worker in self._workers:
            worker.thread.join()
        # Another thread may wait for what will not come any more.
        self._outcomes.put((-1, FreezeframeError("The pool of worker processes was closed.")))


class _Limits(NamedTuple):
    seconds: float
    memory: int
    answer: int


class _Worker:
    """A thread that keeps one worker process busy, and replaces it when an image took it down."""

    def __init__(
        self,
        function: bytes,
        decoder: messages.OutcomeDecoder,
        tasks: "queue.SimpleQueue[Any]",
        outcomes: "queue.SimpleQueue[tuple[int, Any]]",
        stopping: threading.Event,
        limits: _Limits,
    ) -> None:
        self.function, self.decoder = function, decoder
        self.tasks, self.outcomes = tasks, outcomes
        self.stopping, self.limits = stopping, limits
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: socket.socket | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def kill(self) -> None:
        """Kill the process, if there is one; safe from any thread."""
        with self.lock:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()

    def _run(self) -> None:
        try:
            while (chunk := self.tasks.get()) is not None and not self.stopping.is_set():
                self._work(chunk)
        except Exception as error:  # of ours: the main thread raises it
            if not self.stopping.is_set():
                self.outcomes.put((-1, error))
        finally:
            self._end()

    def _work(self, chunk: list[tuple[int, Any]]) -> None:
        retried = -1
        while chunk and not self.stopping.is_set():
            if self.connection is None:
                self.connection = self._start()
            asked = [(os.fsencode(reference.path), reference.frame) for _, reference in chunk]
            try:
                self.connection.settimeout(self.limits.seconds)
                messages.send(self.connection, messages.encode(asked))
            except OSError:  # it died while it had nothing to do
                self._end()
                continue
            while chunk and self.connection is not None:
                index, reference = chunk[0]
                problem = ""
                try:
                    deadline = time.monotonic() + self.limits.seconds
                    answer = messages.receive(self.connection, self.limits.answer, deadline)
                    succeeded, value = self.decoder.decode(answer)
                    self.outcomes.put((index, value if succeeded else UnreadableImage(reference.path, value)))
                    del chunk[0]
                    continue
                except TimeoutError:
                    problem = f"it took longer than {self.limits.seconds:g} s to decode."
                except (EOFError, OSError, messages.BadMessage) as error:
                    # An earlier image may have damaged the process: this one gets a second chance in a fresh one.
                    if retried == index:
                        problem = (
                            f"its decoder's answer is none ({error})."
                            if isinstance(error, messages.BadMessage)
                            else f"it crashes its decoder ({self._death()})."
                        )
                    retried = index
                self._end()
                if problem and not self.stopping.is_set():
                    self.outcomes.put((index, UnreadableImage(reference.path, problem)))
                    del chunk[0]

    def _start(self) -> socket.socket:
        connection, theirs = socket.socketpair()
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        # What can be imported here can be imported there.
        search = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
        with theirs, tempfile.TemporaryFile() as errors:
            program = (
                "from freezeframe.imaging.worker_process import serve; "
                f"serve({theirs.fileno()}, {os.getpid()}, {self.limits.memory})"
            )
            with self.lock:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", program],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, **single, "PYTHONPATH": search},
                )
            theirs.close()
            if self.stopping.is_set():  # `kill` may have come too early
                self.kill()
            try:
                messages.send(connection, self.function)
                answer = messages.receive(connection, MOST_COMPLAINT, time.monotonic() + START_TIMEOUT)
                complaint = messages.Decoder(str | None).decode(answer)
            except TimeoutError:
                complaint = "It does not answer."
            except messages.BadMessage as error:
                complaint = f"Its answer is none ({error})."
            except (EOFError, OSError):
                errors.seek(0)
                complaint = errors.read().decode(errors="replace") or f"It ended ({self._death()})."
        if complaint is not None:
            connection.close()
            raise FreezeframeError(f"A worker process could not be started: {complaint}")
        return connection

    def _death(self) -> str:
        if self.process is None:
            return "exit code 0"
        try:
            code = self.process.wait(1)
        except subprocess.TimeoutExpired:  # who holds it may close the connection and live on
            return "it went silent"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _end(self) -> None:
        self.kill()
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        if self.process is not None:
            self.process.wait()
