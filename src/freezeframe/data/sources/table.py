"""Read a CSV, TSV or Parquet table and find which column says what."""

import codecs
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from freezeframe.data.sources.folder import split_word
from freezeframe.data.wording import listed
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
    except (
        OSError,
        ValueError,
        pd.errors.ParserWarning,
    ) as error:  # pandas' and pyarrow's errors are ValueErrors
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
    separator = _separator(path, text.partition("\n")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the header would be dropped
        return pd.read_csv(StringIO(text), sep=separator, dtype="str", keep_default_na=False, index_col=False)


def _separator(path: Path, header: str) -> str:
    return max(("\t",) if path.suffix.lower() == ".tsv" else (",", ";", "\t"), key=header.count)


def image_column(columns: Iterable[str]) -> str:
    """Return the column with a usual name for image paths; '' where there is none.

    Examples
    --------
    >>> image_column(["id", "Image Path", "age"]), image_column(["id", "age"])
    ('Image Path', '')
    """
    by_plain_name = {plain(column): column for column in reversed(list(columns))}
    return next((by_plain_name[word] for word in _KNOWN["image"] if word in by_plain_name), "")


def read_in_parts(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Read a table as text, a number of rows at a time, in memory that does not grow with the table.

    Unlike `read_table` it takes cells as they are written: what a whole column has in common is not known in time.

    Parameters
    ----------
    path : Path
        CSV, TSV or Parquet.
    rows : int
        Most rows of a part. The first part comes also where the table has no rows.

    Raises
    ------
    UserError
        If it can't be read as a table.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            with pyarrow.parquet.ParquetFile(path) as file:
                yield file.schema_arrow.empty_table().to_pandas()
                for batch in file.iter_batches(rows):
                    columns = zip(batch.schema.names, batch.columns, strict=True)
                    yield pd.DataFrame({name.strip(): _cells(column) for name, column in columns})
            return
        encoding = _encoding(path)
        with path.open(encoding=encoding, errors="replace") as handle:
            separator = _separator(path, handle.readline())
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            with pd.read_csv(
                path, sep=separator, dtype="str", keep_default_na=False, index_col=False, chunksize=rows,
                encoding=encoding, encoding_errors="replace",
            ) as parts:  # fmt: skip
                for part in parts:
                    yield part.rename(columns=str.strip)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise UserError(
            f"{path} can't be read as a table: {error}", action="Mend or replace the file."
        ) from error


def _cells(column: pa.Array) -> list[str]:
    try:
        return column.cast(pa.string()).fill_null("").to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # lists and the like
        return ["" if value is None else str(value) for value in column.to_pylist()]


def _encoding(path: Path) -> str:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with path.open("rb") as handle:
        try:
            while block := handle.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


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
        If a named column, or any column of labels, is missing; no column of labels is needed with a label_pattern.
    """
    by_plain_name = {plain(column): column for column in reversed(table.columns)}
    asked = {
        "image": source.image_column,
        "label": source.label_column,
        "patient": source.patient_column,
        "site": source.site_column,
        "split": source.split_column if source.split_column != "none" else "",
    }
    patterns = {"label": source.label_pattern, "patient": source.patient_pattern}
    found = {}
    for meaning, column in asked.items():
        if column:
            found[meaning] = named_column(table, column, f"{meaning}_column", name)
        elif column == "" or patterns.get(meaning):
            found[meaning] = ""
        else:
            known = (by_plain_name[word] for word in _KNOWN[meaning] if word in by_plain_name)
            taken = set(found.values()) | {column for column in asked.values() if column}
            found[meaning] = next((column for column in known if column not in taken), "")
    if not found["label"] and not source.label_pattern:
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
