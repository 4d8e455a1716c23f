"""`freezeframe train`."""

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.recipe import Recipe


def command(
    recipe: Annotated[Path, typer.Argument(help="YAML file with the recipe.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; runs/<recipe's name> where left out.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a field of the recipe: field=value. Repeatable.")
    ] = None,
) -> None:
    """Train one network. The same line again resumes.

    Examples
    --------
        freezeframe train lite0.yaml --out runs/lite0

        freezeframe train lite0.yaml --out runs/seed1 --set seed=1

        freezeframe train lite0.yaml --out runs/lite0 --set epochs=20
    """
    from freezeframe.verbs.train import train

    train(Recipe.read(recipe, set_ or []), out or Path("runs") / recipe.stem)
