"""A page of a report: rendered from its template, written with its figures and tables as files beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from freezeframe import files
from freezeframe.report.language import Language
from freezeframe.report.rendering import Drawing
from freezeframe.report.tables import Cell, Estimate, Quantity, Table, write


@dataclass(frozen=True)
class Report:
    """A finished report: the page, and the figures and tables to write beside it."""

    page: str
    drawings: tuple[Drawing, ...]
    tables: tuple[Table, ...]
    language: Language

    def write(self, path: Path) -> None:
        """Write the page, and figures (SVG, PNG) and tables (CSV, LaTeX) into ``<stem>_files/`` beside it."""
        beside = path.parent / f"{path.stem}_files"
        for one in self.drawings:
            files.write_text(beside / "figures" / f"{one.name}.svg", one.svg())
            files.write_bytes(beside / "figures" / f"{one.name}.png", one.png())
        for table in self.tables:
            files.write_text(beside / "tables" / f"{table.name}.csv", table.csv())
            files.write_text(beside / "tables" / f"{table.name}.tex", table.latex(self.language))
        files.write_text(path, self.page)


def render(template: str, language: Language, **values: Any) -> str:
    """Render a template with the style sheet and what all templates share.

    Parameters
    ----------
    template : str
        Its name in ``templates/``.
    language : Language
        Of everything that a reader sees.
    **values
        What only this template uses.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("freezeframe.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    source = environment.loader.get_source  # type: ignore[union-attr]
    page = environment.get_template(template).render(
        language=language.code,
        t=language.text,
        lines=lambda cell: _two_lines(cell, language),
        mark=lambda cell: cell.mark if isinstance(cell, Estimate) else "",
        style=source(environment, "style.css")[0].strip(),
        script=source(environment, "script.js")[0].strip(),
        unfold=source(environment, "unfold.js")[0].strip(),
        **values,
    )
    return page + "\n"


def _two_lines(cell: Cell, language: Language) -> tuple[str, str]:
    if isinstance(cell, Estimate) and cell.low is not None and cell.high is not None:
        number = language.signed if cell.signed else language.number
        bounds = language.text("interval", low=number(cell.low), high=number(cell.high))
        return write(Estimate(cell.value, signed=cell.signed), language), bounds
    if isinstance(cell, Quantity):
        return cell.text, cell.detail
    return write(cell, language), ""
