"""Labels, patients, sites and splits from a CSV, TSV or Parquet table."""

import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from freezeframe.data.sources.folder import Rows, split_word
from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError, did_you_mean
from freezeframe.recipe import DataSource

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")

# Compared without case, spaces and signs, in this order.
_KNOWN = {
    "image": (
        "image",
        "imagepath",
        "imagefile",
        "path",
        "filepath",
        "file",
        "filename",
        "img",
        "imagename",
        "imageindex",
        "imageid",
    ),
    "label": (
        "label",
        "labels",
        "class",
        "target",
        "diagnosis",
        "finding",
        "findinglabels",
        "category",
        "classname",
        "dx",
    ),
    "patient": ("patient", "patientid", "subject", "subjectid", "patientidentifier"),
    "site": ("site", "hospital", "institution", "institutionname", "center", "centre"),
    "split": ("split", "subset", "partition"),
}
_RESERVED = {"image", "label", "patient", "site", "split", "sha256", "frame", "bytes", "file"}


@dataclass(frozen=True)
class Columns:
    """Which column of a table says what; '' for none."""

    image: str
    label: str
    patient: str
    site: str
    split: str


def plain(name: str) -> str:
    """Reduce a name to what it is compared by: letters and digits, without case.

    Examples
    --------
    >>> plain("Patient ID"), plain("SOP_Instance_UID")
    ('patientid', 'sopinstanceuid')
    """
    return "".join(character for character in name.casefold() if character.isalnum())


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as text; whole numbers lose a '.0', empty cells are ''.

    Raises
    ------
    UserError
        If it is missing, empty, of another format, or can't be read.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise UserError(
            f"{path} is no table that can be read.",
            f"a file that ends in {', '.join(TABLE_SUFFIXES)}.",
            "Save it as CSV (from a spreadsheet: 'save as').",
        )
    if not path.is_file():
        raise UserError(f"There is no table {path}.", "a CSV, TSV or Parquet file.", "Check the path.")
    try:
        table = pd.read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_text(path)
    except (OSError, ValueError) as error:  # pandas' and pyarrow's errors are ValueErrors or OSErrors
        raise UserError(
            f"{path} can't be read as a table: {error}", action="Mend or replace the file."
        ) from error
    table.columns = [str(name).strip() for name in table.columns]
    if table.columns.has_duplicates:
        repeated = sorted(set(table.columns[table.columns.duplicated()]))
        raise UserError(
            f"{path} has the column {listed(repeated)} more than once.", "each name once.", "Rename it."
        )
    if table.empty:
        raise UserError(f"{path} has no rows.", "a row for each image.")
    columns = {name: _as_text(column) for name, column in table.items()}
    return pd.DataFrame(columns).reset_index(drop=True)


def _read_text(path: Path) -> pd.DataFrame:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")  # what spreadsheets on Windows write
    header = text.partition("\n")[0]
    separator = max(("\t",) if path.suffix.lower() == ".tsv" else (",", ";", "\t"), key=header.count)
    return pd.read_csv(StringIO(text), sep=separator, dtype="str", keep_default_na=False, index_col=False)


def _as_text(column: pd.Series) -> pd.Series:
    text = column.astype("str").where(column.notna(), "").str.strip()
    filled = text[text != ""]
    # A column of whole numbers with gaps is written with '.0' by many programs.
    if len(filled) and filled.str.fullmatch(r"-?\d+\.0").all():
        return text.str.removesuffix(".0")
    return text


def find_columns(table: pd.DataFrame, source: DataSource, name: str) -> tuple[Columns, list[str]]:
    """Find the columns that the recipe names, else those with a usual name.

    Parameters
    ----------
    table : DataFrame
        As `read_table` gives it.
    source : DataSource
        The recipe's fields.
    name : str
        The table's name, for messages.

    Returns
    -------
    columns : Columns
        The columns found.
    notes : list of str
        Which they are.

    Raises
    ------
    UserError
        If a named column, or any column of labels, is missing.
    """
    by_plain_name = {plain(column): column for column in reversed(table.columns)}
    asked = {
        "image": source.image_column,
        "label": source.label_column,
        "patient": source.patient_column,
        "site": source.site_column,
        "split": source.split_column if source.split_column != "none" else "",
    }
    found = {}
    for meaning, column in asked.items():
        if column:
            found[meaning] = named_column(table, column, f"{meaning}_column", name)
        elif column == "" or (meaning == "patient" and source.patient_pattern):
            found[meaning] = ""
        else:
            known = (by_plain_name[word] for word in _KNOWN[meaning] if word in by_plain_name)
            taken = set(found.values()) | {column for column in asked.values() if column}
            found[meaning] = next((column for column in known if column not in taken), "")
    if not found["label"]:
        raise UserError(
            f"{name} has no column of labels; it has {listed(table.columns, 30)}.",
            "one with a usual name, such as 'label' or 'class'.",
            "Name it with 'label_column'.",
        )
    notes = []
    unknown = (
        sorted({word for word in table[found["split"]] if word and not split_word(word)})
        if found["split"]
        else []
    )
    if unknown and source.split_column:
        raise UserError(
            f"Column '{found['split']}' of {name} holds {listed(unknown)}.",
            "train, validation (val, valid) or test.",
            "Mend the table, or say 'split_column: none'.",
        )
    if unknown:
        notes.append(
            f"Column '{found['split']}' of {name} is not used: it holds {listed(unknown)} and no names of splits."
        )
        found["split"] = ""
    used = ", ".join(f"{meaning} = '{column}'" for meaning, column in found.items() if column)
    notes.append(f"Columns of {name}: {used}.")
    return Columns(**found), notes


def named_column(table: pd.DataFrame, column: str, field: str, name: str) -> str:
    """Return a column that the recipe names, by its exact name or without case, spaces and signs."""
    if column in table.columns:
        return column
    alike = [known for known in table.columns if plain(known) == plain(column)]
    if len(alike) == 1:
        return alike[0]
    raise UserError(
        f"{name} has no column '{column}' ({field}); it has {listed(table.columns, 30)}.",
        action=did_you_mean(column, table.columns),
    )


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
        Which column says what.
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
    without_file = len(table) - len({row for _, row in pairs})
    if 2 * without_file > len(table):
        raise UserError(
            f"{without_file:,} of the {counted(len(table), 'row')} of {name} have no image file.",
            "a file for at least half of the rows.",
            "Check the image column and the folder (data: {path: folder of the images, table: the table}).",
        )
    if without_file:
        notes.append(f"Left out {counted(without_file, 'row')} of {name} without an image file.")
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
    filled = (rows["label"] != "").to_numpy()
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
