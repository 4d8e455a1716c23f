"""`freezeframe data preview`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from freezeframe.recipe import Recipe


def command(
    recipe: Annotated[Path, typer.Argument(help="YAML file with the recipe.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The picture to write, a PNG.")] = Path("preview.png"),
    images: Annotated[int, typer.Option(help="Number of images.")] = 6,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a field of the recipe: field=value. Repeatable.")
    ] = None,
    lang: Annotated[str, typer.Option(help="Language: en or es.")] = "en",
) -> None:
    """Draw what the network will really see: images after each preprocessing step, and in each view.

    Examples
    --------
        freezeframe data preview recipe.yaml

        freezeframe data preview recipe.yaml --set augment=randaugment-grey --images 3 --out preview.png
    """
    from freezeframe.verbs.preview import preview
    from freezeframe.verbs.preview_words import words

    known = words(lang)
    result = preview(Recipe.read(recipe, set_ or []), out, images, lang)
    console = Console(highlight=False)
    for note, count in result.notes.items():
        text = known["noted"].format(count=count, images=len(result.images), note=known[note])
        console.print(f"[yellow]{escape(text)}[/]", soft_wrap=True)
    if result.unreadable:
        text = known["unreadable"].format(count=len(result.unreadable), example=result.unreadable[0])
        console.print(f"[yellow]{escape(text)}[/]", soft_wrap=True)
    console.print(escape(known["saved"].format(path=result.path)), soft_wrap=True)
