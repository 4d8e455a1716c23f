"""The list of what a job looks at, on disk: read shard by shard, by this run of it and by the next."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from freezeframe import files
from freezeframe.errors import UserError

_CARRIED = "carried."
_KEY, _NOTES = b"freezeframe.key", b"freezeframe.notes"


class Row(NamedTuple):
    """One image of a job.

    Attributes
    ----------
    image : str
        The file, as the user named it.
    path : str
        Absolute; '' where there is none.
    frame : int
        In the file, from 0.
    problem : str
        Why it can't be looked at, where that is known already; else ''.
    carried : tuple of str
        Cells of the user's table, one for each carried column.
    """

    image: str
    path: str
    frame: int
    problem: str
    carried: tuple[str, ...]


@dataclass(frozen=True)
class Spool:
    """A list that was written, in shards.

    Attributes
    ----------
    path : Path
        The Parquet file; a shard is a row group.
    key : dict
        What was asked for: a list that was made for another key is another job's.
    notes : tuple of str
        What was passed over.
    carried : tuple of str
        Names of the columns that are carried through.
    sizes : tuple of int
        Number of images of each shard.
    """

    path: Path
    key: dict[str, Any]
    notes: tuple[str, ...]
    carried: tuple[str, ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.sizes)

    def read(self, shard: int) -> list[Row]:
        """Return the images of a shard, in order."""
        with pyarrow.parquet.ParquetFile(self.path) as file:
            table = file.read_row_group(shard)
        columns = [column.to_pylist() for column in table.columns]
        return [
            Row(image, path, frame, problem, tuple(carried))
            for image, path, frame, problem, *carried in zip(*columns, strict=True)
        ]


def write(
    path: Path,
    rows: Iterable[Row],
    carried: tuple[str, ...],
    shard: int,
    key: dict[str, Any],
    notes: Any = tuple,
) -> None:
    """Write a list as it comes, atomically.

    Parameters
    ----------
    path : Path
        The file to make.
    rows : iterable of Row
        In order.
    carried : tuple of str
        Names of their carried cells.
    shard : int
        Images of a shard.
    key : dict
        See `Spool`.
    notes : callable
        Called after the last row; returns sentences.
    """
    texts = [pa.field(f"{_CARRIED}{name}", pa.string()) for name in carried]
    schema = pa.schema(
        [
            ("image", pa.string()),
            ("path", pa.string()),
            ("frame", pa.int32()),
            ("problem", pa.string()),
            *texts,
        ]
    )
    with files.atomic(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for batch in _batches(rows, shard):
            flat = zip(*((*row[:4], *row.carried) for row in batch), strict=True)
            writer.write_table(
                pa.table(
                    [pa.array(cells, kind.type) for cells, kind in zip(flat, schema, strict=True)], schema
                )
            )
        writer.add_key_value_metadata({_KEY: json.dumps(key), _NOTES: json.dumps(list(notes()))})


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def read(path: Path) -> Spool | None:
    """Return the list that was written to a file; None where there is no such file.

    Raises
    ------
    UserError
        If the file is something else.
    """
    if not path.exists():
        return None
    with contextlib.suppress(OSError, ValueError, KeyError), pyarrow.parquet.ParquetFile(path) as file:
        metadata = file.metadata
        facts = metadata.metadata or {}
        return Spool(
            path,
            json.loads(facts[_KEY]),
            tuple(json.loads(facts[_NOTES])),
            tuple(name.removeprefix(_CARRIED) for name in file.schema_arrow.names[4:]),
            tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)),
        )
    raise UserError(
        f"{path} is no list of images that freezeframe wrote.",
        "what an earlier run left behind, or nothing.",
        f"Remove {path.parent}, or choose another --out.",
    )
