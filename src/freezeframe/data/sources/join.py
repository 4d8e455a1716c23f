"""Give image files the labels, patients, sites and splits of a table's rows."""

import unicodedata
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from freezeframe.data.sources.folder import Rows, split_word
from freezeframe.data.sources.table import Columns
from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError

_RESERVED = {"image", "label", "patient", "site", "split", "sha256", "frame", "bytes", "file"}


def match_files(cells: list[str], files: list[str], prefixes: tuple[Path, ...]) -> list[str]:
    """Find the file that each cell means.

    By its path from one of the folders; else the only file whose path ends with the cell's, with or without suffix
    (``IMG_1`` means ``left/IMG_1.png``); else the file whose path the cell's ends with, so that absolute paths of
    another computer still work. Names are compared in Unicode's composed form.

    Parameters
    ----------
    cells : list of str
        Image column of the table.
    files : list of str
        Files found, relative to the data set's folder.
    prefixes : tuple of Path
        Folders that relative cells may start from, the data set's first.

    Returns
    -------
    list of str
        A file for each cell, '' where there is none.
    """
    root = prefixes[0]
    exact = {_normal(name): name for name in files}
    by_end: dict[str, set[str]] = defaultdict(set)
    for normal, name in exact.items():
        parts = PurePosixPath(normal).parts
        for start in range(len(parts)):
            end = PurePosixPath(*parts[start:])
            by_end[end.as_posix()].add(name)
            by_end[end.with_suffix("").as_posix()].add(name)

    def find(cell: str) -> str:
        cell = _normal(cell.replace("\\", "/"))
        for prefix in prefixes:
            path = prefix / cell
            if path.is_relative_to(root) and (name := exact.get(path.relative_to(root).as_posix())):
                return name
        candidates = by_end.get(PurePosixPath(cell).as_posix(), set())
        if len(candidates) == 1:
            return next(iter(candidates))
        parts = PurePosixPath(cell).parts
        ends = (PurePosixPath(*parts[start:]).as_posix() for start in range(1, len(parts)))
        return next((exact[end] for end in ends if end in exact), "")

    return [find(cell) if cell else "" for cell in cells]


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def join_rows(
    table: pd.DataFrame, columns: Columns, pairs: list[tuple[str, int]], number_of_files: int, name: str
) -> Rows:
    """Give files the labels of their rows.

    Parameters
    ----------
    table : DataFrame
        As `read_table` gives it.
    columns : Columns
        Which column says what; labels may come from elsewhere.
    pairs : list of (str, int)
        A file and a row that belongs to it.
    number_of_files : int
        How many images there are, with or without a row.
    name : str
        The table's name, for messages.

    Raises
    ------
    UserError
        If more than half of the rows have no file, a file has rows that contradict each other, or no row has a label.
    """
    notes = []
    with_file = {row for _, row in pairs}
    without_file = [row for row in range(len(table)) if row not in with_file]
    cells = table[columns.image].iloc[without_file].tolist() if columns.image else []
    examples = f": {listed(cells, 3)}" if cells else ""
    if 2 * len(without_file) > len(table):
        raise UserError(
            f"{len(without_file):,} of the {counted(len(table), 'row')} of {name} have no image file{examples}.",
            "a file for at least half of the rows.",
            "Check the image column and the folder (data: {path: folder of the images, table: the table}).",
        )
    if without_file:
        notes.append(
            f"Left out {counted(len(without_file), 'row')} of {name} without an image file{examples}."
        )
    without_row = number_of_files - len({file for file, _ in pairs})
    if without_row:
        notes.append(f"Left out {counted(without_row, 'image')} without a row in {name}.")

    chosen = table.iloc[[row for _, row in pairs]].reset_index(drop=True)
    fields = {
        meaning: chosen[column] if column else ""
        for meaning, column in vars(columns).items()
        if meaning != "image"
    }
    rows = pd.DataFrame({"file": [file for file, _ in pairs], **fields}, dtype="str")
    rows["label"] = rows["label"].map(_normal)
    rows["split"] = rows["split"].map(split_word)
    _refuse_contradictions(rows, name)
    free = chosen.drop(columns=[column for column in vars(columns).values() if column])
    free = free.rename(columns={column: f"table_{column}" for column in free.columns if column in _RESERVED})
    rows = pd.concat([rows, free], axis=1)

    first = ~rows["file"].duplicated().to_numpy()
    repeated = int((~first).sum())
    if repeated:
        notes.append(f"{counted(repeated, 'row')} of {name} repeated an image's row and agreed with it.")
    filled = (rows["label"] != "").to_numpy() if columns.label else np.ones(len(rows), dtype=bool)
    if not filled.any():
        raise UserError(
            f"Column '{columns.label}' of {name} is empty in every row.", "labels.", "Fill it in."
        )
    empty = rows["file"][first & ~filled].tolist()
    if empty:
        notes.append(f"Left out {counted(len(empty), 'image')} with an empty label: {listed(empty)}.")
    return Rows(rows.iloc[np.flatnonzero(first & filled)].reset_index(drop=True), tuple(notes))


def _refuse_contradictions(rows: pd.DataFrame, name: str) -> None:
    for meaning in ("label", "patient", "split"):
        values: dict[str, set[str]] = defaultdict(set)
        for file, value in zip(rows["file"], rows[meaning], strict=True):
            values[file].add(value)
        files = sorted(file for file, different in values.items() if len(different) > 1)
        if files:
            raise UserError(
                f"{name} has rows of one image with different {meaning}s: {counted(len(files), 'image')}, "
                f"{listed(files)} (the first has {listed(sorted(values[files[0]]))}).",
                "one row an image, or rows that agree.",
                "Mend the table, or join it by an identifier that is each image's own (SOPInstanceUID).",
            )
