"""Which coded concept stands for a class: a table that comes with freezeframe, or the user's own.

What freezeframe brings is few and sure: SNOMED CT concepts that DICOM's own value sets use (PS3.16, such as CID 6063
and 6102), or that name the label exactly. A label that may mean several things, such as 'effusion', has no row.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from freezeframe.bundle.runtime.contents import Code
from freezeframe.errors import UserError, did_you_mean

COLUMNS = ("label", "scheme", "value", "meaning")
SNOMED_CT = "SCT"
_LARGEST_TABLE = 1 << 20  # bytes

# Verhoeff's permutations and the multiplication of the dihedral group D5, by which SNOMED CT's identifiers are checked
# (SNOMED CT Release File Specifications, "Check-digit").
_MULTIPLIED = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTED = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def codes_for(labels: Sequence[str], table: Path | None = None) -> dict[str, Code | None]:
    """Return the code of each class.

    Parameters
    ----------
    labels : sequence of str
        The classes, as in the training data.
    table : Path, optional
        The user's own CSV with the columns ``label,scheme,value,meaning`` and one row for each class; one whose last
        three are empty has no code. freezeframe's own table where left out, in which capitals, ``_`` and ``-`` make no
        difference.

    Returns
    -------
    dict of str to Code or None
        In the order of the labels; None where there is no code.

    Raises
    ------
    UserError
        If the table can't be read, lacks a class, names one that is not there or one twice, or has a code that
        can't be.

    Examples
    --------
    >>> codes_for(["NORMAL", "PNEUMONIA"])["PNEUMONIA"].value
    '233604007'
    """
    if table is None:
        known = default_table()
        return {label: known.get(_spelling(label)) for label in labels}
    rows = _read(_content(Path(table)), str(table))
    missing = [label for label in labels if label not in rows]
    extra = [label for label in rows if label not in labels]
    if missing or extra:
        problems = [
            f"{words} {', '.join(map(repr, names))}"
            for words, names in (("lacks", missing), ("names", extra))
            if names
        ]
        raise UserError(
            f"The table {table} {' and '.join(problems)}.",
            f"one row for each class, written as in the training data: {', '.join(map(repr, labels))}.",
            "Mend it; a class without a code has its label alone in its row.",
        )
    return {label: rows[label] for label in labels}


def default_table() -> dict[str, Code | None]:
    """Return freezeframe's own table: codes by label, in lower case with blanks between words."""
    return _read(
        resources.files("freezeframe.bundle").joinpath("codes.csv").read_text(encoding="utf-8"), "codes.csv"
    )


def write_table(codes: Mapping[str, Code | None]) -> str:
    """Write codes as the CSV that `codes_for` reads.

    Examples
    --------
    >>> print(write_table({"normal": Code(scheme="SCT", value="17621005", meaning="Normal"), "other": None}), end="")
    label,scheme,value,meaning
    normal,SCT,17621005,Normal
    other,,,
    """
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(COLUMNS)
    for label, code in codes.items():
        rows.writerow((label, code.scheme, code.value, code.meaning) if code else (label, "", "", ""))
    return written.getvalue()


def is_snomed_identifier(value: str) -> bool:
    """Return whether it can be one of SNOMED CT's: 6 to 18 digits, of which the last checks the others (Verhoeff 1969).

    Examples
    --------
    >>> is_snomed_identifier("233604007"), is_snomed_identifier("233604008")
    (True, False)
    """
    if not re.fullmatch(r"[1-9][0-9]{5,17}", value):
        return False
    check = 0
    for place, digit in enumerate(reversed(value)):
        check = int(_MULTIPLIED[check][int(_PERMUTED[place % 8][int(digit)])])
    return check == 0


def _spelling(label: str) -> str:
    return " ".join(re.split(r"[\s_-]+", label.strip().casefold()))


def _content(table: Path) -> str:
    try:
        if table.stat().st_size > _LARGEST_TABLE:
            raise UserError(
                f"The table {table} has {table.stat().st_size:,} bytes.",
                "a row for each class.",
                "Check the path.",
            )
        return table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The table {table} can't be read: {error}.",
            "a CSV file in UTF-8.",
            "Check the path, or save it again.",
        ) from error


def _read(content: str, origin: str) -> dict[str, Code | None]:
    # Spreadsheets of half of Europe and Latin America separate columns by semicolons.
    first = content.partition("\n")[0]
    rows = csv.reader(io.StringIO(content), delimiter=";" if ";" in first and "," not in first else ",")
    try:
        header, *lines = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{origin} is empty or no CSV file.", f"the columns {', '.join(COLUMNS)}.") from error
    _check_header(header, origin)
    codes: dict[str, Code | None] = {}
    for line in lines:
        cells = dict(zip(header, [*line, *[""] * (len(header) - len(line))], strict=False))
        label = cells["label"]
        if label in codes:
            raise UserError(
                f"{origin} names the class {label!r} twice.", "one row for each class.", "Remove one."
            )
        codes[label] = _code(cells, origin)
    return codes


def _check_header(header: Iterable[str], origin: str) -> None:
    for name in header:
        if name not in COLUMNS:
            raise UserError(f"{origin} has the column {name!r};", action=did_you_mean(name, COLUMNS))
    if lacking := [name for name in COLUMNS if name not in header]:
        raise UserError(f"{origin} lacks the column {lacking[0]!r}.", f"the columns {', '.join(COLUMNS)}.")


def _code(cells: Mapping[str, str], origin: str) -> Code | None:
    scheme, value, meaning = cells["scheme"], cells["value"], cells["meaning"]
    if not any((scheme, value, meaning)):
        return None
    if scheme == SNOMED_CT and not is_snomed_identifier(value):
        raise UserError(
            f"{origin} gives the class {cells['label']!r} the SNOMED CT code {value!r}.",
            "an identifier of 6 to 18 digits whose last digit fits the others.",
            "Copy it again from browser.ihtsdotools.org; a spreadsheet may have rounded it: mark the column as text.",
        )
    try:
        return Code(scheme=scheme, value=value, meaning=meaning)
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(
            f"{origin}: {problem['loc'][0]} of the class {cells['label']!r}: {problem['msg']}.",
            "a scheme, a value and a meaning, or none of them.",
            "Mend the row.",
        ) from error
