"""`freezeframe data phantom`."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Option(help="Folder to fill.")] = Path("phantom"),
    patients: Annotated[int, typer.Option(help="How many people to invent.")] = 400,
    seed: Annotated[int, typer.Option(help="Another seed invents other people.")] = 0,
) -> None:
    """Make synthetic chest radiographs of two sites as DICOM, with a table of labels.

    Examples
    --------
        freezeframe data phantom --out phantom/

        freezeframe data phantom --out small/ --patients 40 --seed 1
    """
    from freezeframe.verbs.phantom import phantom

    typer.echo(phantom(out, patients, seed))
