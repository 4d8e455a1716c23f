"""What the suffix trains on: activations at the cut, computed once and stored, or anew for each batch.

Both come from the same executor by the same call, so a stored activation is the live one.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import psutil

from freezeframe.progress import progress, say
from freezeframe.stores.pack import Pack, free_bytes, writing
from freezeframe.training.views import Place, Views

Task = TypeVar("Task")
Result = TypeVar("Result")

CHUNK = 16
LOOKAHEAD = 4
# Of the free memory, what activations may take before they are read from the map instead.
MEMORY_SHARE = 0.4


class Activations(Protocol):
    """Where batches come from."""

    views: Views

    def batch(self, places: Sequence[Place]) -> np.ndarray:
        """Return the flattened activations of some views, (N, size) float32."""
        ...


class LiveActivations:
    """Activations computed for each batch; without an executor (nothing is frozen) the input itself.

    Parameters
    ----------
    views : Views
        The images.
    run : callable, optional
        From (N, 3, H, W) to (N, size), float32.
    """

    def __init__(self, views: Views, run: Callable[[np.ndarray], np.ndarray] | None) -> None:
        self.views, self._run = views, run

    def batch(self, places: Sequence[Place]) -> np.ndarray:
        """Return the flattened activations of some views, (N, size) float32."""
        inputs = self.views.batch(places)
        return inputs.reshape(len(inputs), -1) if self._run is None else self._run(inputs)


class StoredActivations:
    """Activations that were computed once, in memory where they fit and from the map where they do not.

    Parameters
    ----------
    views : Views
        The images.
    run : callable
        From (N, 3, H, W) to (N, size), float32.
    pack : Pack
        The store.
    """

    def __init__(self, views: Views, run: Callable[[np.ndarray], np.ndarray], pack: Pack) -> None:
        self.views, self._run, self._pack = views, run, pack
        self._rows: dict[str, int] = {}
        self._memory: np.ndarray | None = None

    @property
    def record_bytes(self) -> int:
        """Size of one view's activations on disk."""
        return self._pack.record_bytes

    def missing(self, places: Sequence[Place]) -> list[Place]:
        """Return one place for each record that is not in the store."""
        by_key = {self.views.record_key(place): place for place in reversed(places)}
        return [by_key[key] for key in self._pack.missing(list(reversed(by_key)))]

    def fill(self, places: Sequence[Place], what: str = "Frozen part") -> int:
        """Compute what is not in the store; survives a kill up to the segment being gathered.

        Returns
        -------
        int
            Number of views that were computed.

        Raises
        ------
        UserError
            If the disk is full or the store can't be written; what was done is kept.
        """
        if not self.missing(places):
            return 0
        with self._pack.filling(lambda: say("Another process computes these activations; waiting for it.")):
            self._pack.sweep()
            self._pack.refresh()
            missing = self.missing(places)
            with writing(self._pack) as writer, progress(what, len(missing), "views") as advance:
                for chunk, inputs in prefetch(_chunks(missing, CHUNK), self.views.batch):
                    for place, record in zip(chunk, self._run(inputs), strict=True):
                        writer.add(self.views.record_key(place), record)
                    advance(len(chunk))
        return len(missing)

    def load(self, places: Sequence[Place], memory_share: float = MEMORY_SHARE) -> int:
        """Take the records of some views into memory, if they fit into a share of what is free.

        Returns
        -------
        int
            Number of records.
        """
        keys = list(dict.fromkeys(self.views.record_key(place) for place in places))
        if len(keys) * self._pack.record_bytes <= memory_share * psutil.virtual_memory().available:
            self._memory = self._pack.read(keys)
            self._rows = {key: row for row, key in enumerate(keys)}
        return len(keys)

    def batch(self, places: Sequence[Place]) -> np.ndarray:
        """Return the flattened activations of some views, (N, size) float32."""
        keys = [self.views.record_key(place) for place in places]
        if self._memory is not None and all(key in self._rows for key in keys):
            return self._memory[[self._rows[key] for key in keys]].astype(np.float32, copy=False)
        return self._pack.read(keys).astype(np.float32, copy=False)


def _chunks(places: Sequence[Place], size: int) -> Iterator[list[Place]]:
    return (list(places[start : start + size]) for start in range(0, len(places), size))


def prefetch(
    tasks: Iterator[Task], work: Callable[[Task], Result], ahead: int = LOOKAHEAD, threads: int = 2
) -> Iterator[tuple[Task, Result]]:
    """Yield (task, result) in order, while threads already work at the next ones."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[tuple[Task, Future[Result]]] = [
            (task, pool.submit(work, task)) for task in islice(tasks, ahead)
        ]
        try:
            while waiting:
                task, future = waiting.pop(0)
                result = future.result()
                waiting.extend((following, pool.submit(work, following)) for following in islice(tasks, 1))
                yield task, result
        finally:
            for _, future in waiting:
                future.cancel()


def fits_on_disk(store: Path, needed: int) -> bool:
    """Whether the store's disk has room for so many bytes, with a tenth left over."""
    return free_bytes(store) > 1.1 * needed
