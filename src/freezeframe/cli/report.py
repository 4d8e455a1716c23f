"""`freezeframe report`."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    evaluation: Annotated[
        Path, typer.Argument(help="Folder that `freezeframe evaluate` made.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page; report.html in the evaluation's folder where left out.")
    ] = None,
    lang: Annotated[str, typer.Option(help="Language: en or es.")] = "en",
    heat_maps: Annotated[bool, typer.Option(help="Show by Grad-CAM where the networks looked.")] = True,
    variants: Annotated[
        Path | None,
        typer.Option(
            help="Folder that `freezeframe export --optimise` made; one beside EVALUATION where left out."
        ),
    ] = None,
) -> None:
    """Write an evaluation as one self-contained HTML page.

    Figures (SVG, PNG) and tables (CSV, LaTeX) are written beside it.

    Examples
    --------
        freezeframe report eval/ --out report.html

        freezeframe report eval/ --lang es --out informe.html
    """
    from freezeframe.verbs.report import report

    typer.echo(report(evaluation, out, lang, heat_maps, variants))
