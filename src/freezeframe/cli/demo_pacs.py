"""`freezeframe demo-pacs`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer


def command(
    out: Annotated[Path, typer.Option(help="Folder for all that is made.")] = Path("demo-pacs"),
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Answers; demo/bundle where left out, or a quickly trained one.", show_default=False
        ),
    ] = None,
    patients: Annotated[int, typer.Option(help="How many people come to the hospital.")] = 20,
    language: Annotated[Literal["en", "es"], typer.Option("--lang", help="Language of the results.")] = "en",
    stay: Annotated[
        bool | None,
        typer.Option(
            help="Go on until Ctrl-C, so that the page can be looked at; in a terminal where left out."
        ),
    ] = None,
) -> None:
    """Start Orthanc and a node beside it, send synthetic studies, and see their results arrive. Needs Orthanc.

    Examples
    --------
        freezeframe demo-pacs

        freezeframe demo-pacs --bundle chest.ffb --lang es --no-stay
    """
    from freezeframe.verbs.demo_pacs import demo_pacs

    shown = demo_pacs(out, bundle, patients, language, sys.stdout.isatty() if stay is None else stay)
    typer.echo(f"All of it: {shown.folder}")
