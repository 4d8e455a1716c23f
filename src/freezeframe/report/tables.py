"""Tables of a report: one description, written as HTML, CSV and LaTeX."""

import csv
import io
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from freezeframe.report.language import MISSING, Language

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\u2212": "$-$",
        "–": "--",
        "\u202f": r"\,",
        "\u00a0": "~",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; a difference is written with its sign, and what stands out has a mark."""

    value: float | None
    low: float | None = None
    high: float | None = None
    signed: bool = False
    mark: Literal["", "best", "equal"] = ""


@dataclass(frozen=True)
class Quantity:
    """A number that people read in another form, such as seconds, with a smaller second line."""

    value: float | None
    text: str
    detail: str = ""


Cell = str | int | float | Estimate | Quantity | None


@dataclass(frozen=True)
class Table:
    """A table with a name for its files, a caption, the titles of its columns, and its rows."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def csv(self) -> str:
        """Write CSV for programs: plain numbers with a dot, the bounds of an interval in columns of their own."""
        wide = [
            any(isinstance(row[index], Estimate) for row in self.rows) for index in range(len(self.columns))
        ]
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        head: list[str] = []
        for title, with_interval in zip(self.columns, wide, strict=True):
            head += [title, f"{title} (low)", f"{title} (high)"] if with_interval else [title]
        writer.writerow(head)
        for row in self.rows:
            plain: list[str | float | None] = []
            for cell, with_interval in zip(row, wide, strict=True):
                if isinstance(cell, Estimate):
                    plain += [cell.value, cell.low, cell.high]
                else:
                    plain += [cell.value if isinstance(cell, Quantity) else cell]
                    plain += [None, None] if with_interval else []
            writer.writerow(["" if value is None else value for value in plain])
        return buffer.getvalue()

    def latex(self, language: Language) -> str:
        """Write a LaTeX tabular that needs the package booktabs."""
        numbers = [
            all(not isinstance(row[index], str) for row in self.rows) and bool(self.rows)
            for index in range(len(self.columns))
        ]
        lines = [
            # A comment ends with its line, and so must the caption.
            f"% {' '.join(self.caption.split())}",
            r"% \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numbers)}}}",
            r"\toprule",
            _latex_row(self.columns),
            r"\midrule",
            *(_latex_row((write(cell, language) for cell in row), map(_emphasis, row)) for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"


def write(cell: Cell, language: Language) -> str:
    """Write a cell for a reader."""
    if cell is None:
        return MISSING
    if isinstance(cell, Quantity):
        return f"{cell.text} ({cell.detail})" if cell.detail else cell.text
    if isinstance(cell, Estimate):
        number = language.signed if cell.signed else language.number
        if cell.low is None or cell.high is None:
            return number(cell.value)
        return f"{number(cell.value)} ({number(cell.low)}\u00a0; {number(cell.high)})"
    if isinstance(cell, bool | str):
        return str(cell)
    return language.integer(cell) if isinstance(cell, int) else language.number(cell)


def _latex_row(cells: Iterable[str], emphases: Iterable[str] = itertools.repeat("")) -> str:
    escaped = (cell.translate(LATEX) for cell in cells)
    marked = (
        rf"\{emphasis}{{{cell}}}" if emphasis else cell
        for cell, emphasis in zip(escaped, emphases, strict=False)
    )
    return " & ".join(marked) + r" \\"


def _emphasis(cell: Cell) -> str:
    mark = cell.mark if isinstance(cell, Estimate) else ""
    return {"best": "textbf", "equal": "underline"}.get(mark, "")
