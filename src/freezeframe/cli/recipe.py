"""`freezeframe recipe`."""

import sys

from rich.console import Console
from rich.markdown import Markdown

from freezeframe.recipe import DataSource, Split, field_table


def command() -> None:
    """Print every field of a recipe, with its default and meaning.

    Examples
    --------
        freezeframe recipe
    """
    text = f"# Recipe\n\n{field_table()}\n\n# data\n\n{field_table(DataSource)}\n\n# split\n\n{field_table(Split)}\n"
    if sys.stdout.isatty():
        Console().print(Markdown(text))
    else:
        sys.stdout.write(text)
