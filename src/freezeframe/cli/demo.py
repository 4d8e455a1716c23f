"""`freezeframe demo`."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def command(
    out: Annotated[Path, typer.Option(help="Folder for all that is made.")] = Path("demo"),
    patients: Annotated[int, typer.Option(help="How many people to invent.")] = 400,
    language: Annotated[Literal["en", "es"], typer.Option("--lang", help="Language of the report.")] = "en",
) -> None:
    """Run the main job on synthetic radiographs: train three members, ensemble, evaluate, report, export, predict.

    Examples
    --------
        freezeframe demo

        freezeframe demo --out demo-es/ --lang es
    """
    from freezeframe.verbs.demo import demo

    typer.echo(f"The report: {demo(out, patients, language)}")
