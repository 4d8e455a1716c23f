"""From a bundle's answers to rows, and from shards of rows to one file."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from scipy.special import softmax

from freezeframe import files
from freezeframe.bundle.runtime.contents import Contents
from freezeframe.bundle.runtime.predictor import Answers
from freezeframe.bundle.runtime.spool import Row
from freezeframe.errors import UserError
from freezeframe.progress import progress

SUFFIXES = (".csv", ".parquet", ".jsonl")
_EXAMPLES = 3


@dataclass(frozen=True)
class Layout:
    """Which columns the results have.

    Attributes
    ----------
    labels, members : tuple of str
        Of the bundle.
    calibrated : bool
        Whether the bundle has a temperature.
    point : str or None
        Name of the operating point that decides.
    bundle : str
        The bundle's identity.
    lang : str
        Language of the warnings' sentences.
    each_member : bool
        Whether each member's probabilities and distance are wanted.
    pictures : bool
        Whether there are heat maps.
    carried : tuple of str
        The user's own columns.
    """

    labels: tuple[str, ...]
    members: tuple[str, ...]
    calibrated: bool
    point: str | None
    bundle: str
    lang: str = "en"
    each_member: bool = False
    pictures: bool = False
    carried: tuple[str, ...] = ()

    @classmethod
    def of(cls, contents: Contents, bundle: str, point: str | None, **more: Any) -> "Layout":
        """Lay out the results of a bundle."""
        members = tuple(member.name for member in contents.members)
        return cls(contents.labels, members, contents.temperature is not None, point, bundle, **more)

    @property
    def schema(self) -> pa.Schema:
        """Names and types of all columns, in order."""
        text, number = pa.string(), pa.float64()
        fields = [("image", text), ("frame", pa.int32()), *((name, text) for name in self.carried)]
        fields += [("decision", text)]
        fields += [(f"probability_{label}", number) for label in self.labels]
        if self.calibrated:
            fields += [(f"calibrated_{label}", number) for label in self.labels]
        fields += [("spread", number), ("operating_point", text)]
        fields += [("warnings", text), ("warning_sentences", text), ("distance", number)]
        if self.each_member:
            for member in self.members:
                fields += [(f"probability_{label}@{member}", number) for label in self.labels]
                fields += [(f"distance@{member}", number)]
        if self.pictures:
            fields += [("heat_map", text)]
        return pa.schema([*fields, ("error", text), ("bundle", text)])


class Shard:
    """The answers for some images as they come, in any order.

    Parameters
    ----------
    layout : Layout
        Of the results.
    rows : sequence of Row
        The images.
    """

    def __init__(self, layout: Layout, rows: Sequence[Row]) -> None:
        self.layout, self.rows = layout, rows
        count, classes, members = len(rows), len(layout.labels), len(layout.members)
        self._probabilities = np.full((count, classes), np.nan)
        self._calibrated = np.full((count, classes), np.nan)
        self._each = np.full((members, count, classes), np.nan)
        self._distances = np.full((members, count), np.nan)
        self._spread = np.full(count, np.nan)
        self._texts: dict[str, list[str | None]] = {
            name: [None] * count
            for name in ("decision", "warnings", "warning_sentences", "error", "heat_map")
        }

    def fail(self, place: int, reason: str) -> None:
        """Say why there is no answer for an image."""
        self._texts["error"][place] = reason

    def take(self, places: Sequence[int], answers: Answers, pictures: Sequence[str] = ()) -> None:
        """Take the answers for the images at some places, and the files of their heat maps.

        Parameters
        ----------
        places : sequence of int (N,)
            In the shard.
        answers : Answers
            For these N images.
        pictures : sequence of str (N,), optional
            Names of the heat maps' files.
        """
        where = np.asarray(places, np.int64)
        self._probabilities[where] = answers.probabilities
        self._calibrated[where] = answers.calibrated
        self._spread[where] = answers.spread
        self._distances[:, where] = answers.distances
        self._each[:, where] = softmax(answers.logits.astype(np.float64), axis=2)
        for number, place in enumerate(places):
            found = answers.warnings[number]
            self._texts["decision"][place] = self.layout.labels[answers.decisions[number]]
            self._texts["warnings"][place] = " ".join(warning.key for warning in found)
            sentences = (warning.sentence(self.layout.lang) for warning in found)
            self._texts["warning_sentences"][place] = " ".join(sentences)
            if pictures:
                self._texts["heat_map"][place] = pictures[number]

    def table(self) -> pa.Table:
        """Return the rows in the order of the images; what there is no answer to is empty."""
        layout = self.layout
        columns: dict[str, Any] = {
            "image": [row.image for row in self.rows],
            "frame": [row.frame for row in self.rows],
            **_classes("probability_{}", layout.labels, self._probabilities),
            **_classes("calibrated_{}", layout.labels, self._calibrated),
            "spread": self._spread,
            "distance": _distance(self._distances),
            "operating_point": [layout.point] * len(self.rows),
            "bundle": [layout.bundle] * len(self.rows),
            **self._texts,
        }
        for number, member in enumerate(layout.members):
            columns |= _classes(f"probability_{{}}@{member}", layout.labels, self._each[number])
            columns[f"distance@{member}"] = self._distances[number]
        columns |= {
            name: [row.carried[place] for row in self.rows] for place, name in enumerate(layout.carried)
        }
        schema = layout.schema
        arrays = [pa.array(columns[entry.name], entry.type, from_pandas=True) for entry in schema]
        return pa.Table.from_arrays(arrays, schema=schema)


def _classes(pattern: str, labels: tuple[str, ...], values: np.ndarray) -> dict[str, np.ndarray]:
    return {pattern.format(label): values[:, place] for place, label in enumerate(labels)}


def _distance(distances: np.ndarray) -> np.ndarray:
    """Return the largest distance (N,) that half of the members (M, N) reach: above 1 where the image is flagged."""
    result = np.full(distances.shape[1], np.nan)
    for image, own in enumerate(distances.T):
        if len(known := np.sort(own[np.isfinite(own)])[::-1]):
            result[image] = known[(len(known) - 1) // 2]
    return result


@dataclass
class Summary:
    """What the results hold, counted as they are written.

    Attributes
    ----------
    images : int
        Rows, with and without an answer.
    decisions, warnings : Counter
        How often each class was decided on, and each warning (its key) was given.
    unreadable : int
        Images without an answer.
    examples : list of str
        The first of them, each with the reason.
    """

    images: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        """Count the rows of a shard."""
        self.images += table.num_rows
        for row in table.select(["image", "decision", "warnings", "error"]).to_pylist():
            if row["error"] is not None:
                self.unreadable += 1
                if len(self.examples) < _EXAMPLES:
                    self.examples.append(f"{row['image']}: {row['error']}")
            else:
                self.decisions[row["decision"]] += 1
                self.warnings.update(row["warnings"].split())


def check_out(out: Path) -> None:
    """Refuse a name of results whose suffix says no known format, or that is a folder's.

    Raises
    ------
    UserError
        With those that are known.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"--out is {out}.",
            f"a file that ends in {', '.join(SUFFIXES)}.",
            "For example --out answers.csv.",
        )
    if out.is_dir():
        raise UserError(f"--out is the folder {out}.", "a file.", "For example --out answers.csv.")


def join(parts: Iterable[Path], total: int, schema: pa.Schema, out: Path) -> Summary:
    """Write shards, Parquet files, as one file, atomically and one shard at a time.

    Parameters
    ----------
    parts : iterable of Path
        In order.
    total : int
        Number of all rows.
    schema : Schema
        Of all of them.
    out : Path
        ``.csv``, ``.parquet`` or ``.jsonl``.
    """
    summary = Summary()
    with files.atomic(out) as temporary, progress("Writing the results", total) as advance:
        told = _counted(parts, summary, advance)
        if out.suffix.lower() == ".parquet":
            with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
                for table in told:
                    writer.write_table(table)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as handle:
                write = _csv(handle, schema) if out.suffix.lower() == ".csv" else _lines(handle)
                for table in told:
                    write(table)
    return summary


def _counted(parts: Iterable[Path], summary: Summary, advance: Callable[[int], None]) -> Iterator[pa.Table]:
    for part in parts:
        table = pyarrow.parquet.read_table(part)
        summary.add(table)
        yield table
        advance(table.num_rows)


def _csv(handle: IO[str], schema: pa.Schema) -> Callable[[pa.Table], None]:
    writer = csv.writer(handle, lineterminator="\n")
    writer.writerow(schema.names)

    def write(table: pa.Table) -> None:
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))

    return write


def _lines(handle: IO[str]) -> Callable[[pa.Table], None]:
    def write(table: pa.Table) -> None:
        for row in table.to_pylist():
            row["warnings"] = None if row["warnings"] is None else row["warnings"].split()
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    return write
