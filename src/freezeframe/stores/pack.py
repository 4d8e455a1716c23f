"""A pack: records of one shape, found by content key, shared between processes, safe against a kill at any instant.

A pack is a folder. What it holds is described by everything that determines a record, and the folder's name is the
hash of that description, so a wrong hit is impossible. Records arrive in segments; a segment is two files, the
records (`.npy`, memory-mapped) and then their keys, and it exists from the moment that its keys are renamed into
place. A partial segment is therefore never read.
"""

import contextlib
import json
import mmap
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from freezeframe import files

FORMAT = 1
# Of the maps' pages, what one pack may hold in this process's memory.
RESIDENT_BYTES = 64 * 2**20


class Pack:
    """Records of one shape and dtype under content keys.

    Parameters
    ----------
    store : Path
        The store's folder.
    kind : str
        ``"pixels"`` or ``"activations"``: the sub-folder.
    description : dict
        Plain data: all that determines a record besides its key.
    shape : tuple of int
        Of one record.
    dtype : numpy dtype
        Of one record.

    Examples
    --------
    >>> import tempfile
    >>> pack = Pack(Path(tempfile.mkdtemp()), "pixels", {"size": 2}, (2,), np.uint8)
    >>> pack.append(["a", "b"], np.array([[1, 2], [3, 4]], np.uint8))
    >>> pack.missing(["b", "c"])
    ['c']
    >>> pack.read(["b", "a"]).tolist()
    [[3, 4], [1, 2]]
    """

    def __init__(
        self, store: Path, kind: str, description: dict[str, Any], shape: tuple[int, ...], dtype: Any
    ) -> None:
        self.shape, self.dtype = tuple(int(side) for side in shape), np.dtype(dtype)
        whole = {"format": FORMAT, "shape": list(self.shape), "dtype": self.dtype.str, **description}
        self.folder = Path(store) / kind / files.sha256_json(whole)[:32]
        if not (self.folder / "pack.json").exists():
            files.write_json(self.folder / "pack.json", whole)
        self._segments: list[np.ndarray] = []
        self._bytes_read = 0
        self._names: set[str] = set()
        self._places: dict[str, tuple[int, int]] = {}
        self.refresh()

    @property
    def record_bytes(self) -> int:
        """Size of one record on disk."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def refresh(self) -> None:
        """See segments that other processes have finished."""
        for keys_file in sorted(self.folder.glob("segment-*.keys")):
            if keys_file.stem in self._names:
                continue
            try:
                keys = json.loads(keys_file.read_text())
                records = np.load(keys_file.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError):
                continue  # deleted or cut short by somebody: its records are missing, and are made again
            if records.shape != (len(keys), *self.shape) or records.dtype != self.dtype:
                continue
            for row, key in enumerate(keys):
                self._places.setdefault(key, (len(self._segments), row))
            self._segments.append(records)
            self._names.add(keys_file.stem)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that are not here, each once, in their order."""
        return [key for key in dict.fromkeys(keys) if key not in self._places]

    def append(self, keys: Sequence[str], records: np.ndarray) -> None:
        """Add a segment; on return it survives a power loss.

        Raises
        ------
        UserError
            If the disk is full or the folder read-only. Earlier segments are untouched.
        """
        if records.shape != (len(keys), *self.shape) or records.dtype != self.dtype:
            raise ValueError(
                f"{records.shape} {records.dtype} is not {len(keys)} x {self.shape} {self.dtype}"
            )
        records = np.ascontiguousarray(records)
        name = f"segment-{files.sha256_json(list(keys))[:16]}"
        with files.atomic(self.folder / f"{name}.npy") as temporary, temporary.open("wb") as handle:
            # np.save loses the error number of a full disk.
            np.lib.format.write_array_header_2_0(handle, np.lib.format.header_data_from_array_1_0(records))
            handle.write(records.data)
        files.write_text(self.folder / f"{name}.keys", json.dumps(list(keys)))
        self.refresh()

    def read(self, keys: Sequence[str], out: np.ndarray | None = None) -> np.ndarray:
        """Read records in the order of the keys; KeyError for one that is not here.

        Parameters
        ----------
        keys : sequence of str
            Content keys, length N.
        out : (N, *shape) array, optional
            Where to put them.

        Returns
        -------
        (N, *shape) array of the pack's dtype
        """
        places = np.array([self._places[key] for key in keys], dtype=np.int64).reshape(-1, 2)
        records = np.empty((len(keys), *self.shape), self.dtype) if out is None else out
        for segment in np.unique(places[:, 0]):
            wanted = np.flatnonzero(places[:, 0] == segment)
            records[wanted] = self._segments[segment][places[wanted, 1]]
        self._bytes_read += len(keys) * self.record_bytes
        if self._bytes_read > RESIDENT_BYTES:
            self._let_go()
        return records

    def _let_go(self) -> None:
        """Hand pages that were read back to the system (its cache keeps them), so that memory stays flat."""
        for records in self._segments:
            if isinstance(records.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                records.base.madvise(mmap.MADV_DONTNEED)
        self._bytes_read = 0

    def filling(self, on_wait: Callable[[], None] | None = None) -> contextlib.AbstractContextManager[None]:
        """Hold the right to fill, so that two processes never compute the same records.

        Whoever waited must `refresh` and ask again what is `missing`.
        """
        return files.exclusive(self.folder / "lock", on_wait)

    def sweep(self) -> None:
        """Delete what a killed process left half written. Only while holding `filling`."""
        for leftover in self.folder.glob(".segment-*.partial"):
            leftover.unlink(missing_ok=True)


class Writer:
    """Gathers records and appends them as segments of a bounded size.

    Parameters
    ----------
    pack : Pack
        Where they go.
    segment_bytes : int
        Size of a segment, and so most of the work that a kill can cost, and the memory held.
    """

    def __init__(self, pack: Pack, segment_bytes: int = 64 * 2**20) -> None:
        self.pack = pack
        self.capacity = max(1, segment_bytes // max(1, pack.record_bytes))
        self._keys: list[str] = []
        self._records: list[np.ndarray] = []

    def add(self, key: str, record: np.ndarray) -> None:
        """Add one record; it is safe on disk after the segment is full, or `flush`."""
        self._keys.append(key)
        self._records.append(np.array(record, dtype=self.pack.dtype))
        if len(self._keys) >= self.capacity:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self._keys:
            self.pack.append(self._keys, np.stack(self._records))
            self._keys, self._records = [], []


@contextlib.contextmanager
def writing(pack: Pack, segment_bytes: int = 64 * 2**20) -> Iterator[Writer]:
    """Yield a `Writer`; what was added is kept also when the block ends by an error or Ctrl-C."""
    writer = Writer(pack, segment_bytes)
    try:
        yield writer
    finally:
        writer.flush()


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that `folder` is, or will be, on."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
