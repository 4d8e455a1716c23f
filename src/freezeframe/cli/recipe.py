"""`freezeframe recipe`."""

import sys

from rich.console import Console
from rich.markdown import Markdown

from freezeframe.recipe import SECTIONS, field_table


def command() -> None:
    """Print every field of a recipe, with its default and meaning.

    Examples
    --------
        freezeframe recipe
    """
    sections = (f"\n# {name}\n\n{field_table(section)}\n" for name, section in SECTIONS.items())
    text = f"# Recipe\n\n{field_table()}\n{''.join(sections)}"
    if sys.stdout.isatty():
        Console().print(Markdown(text))
    else:
        sys.stdout.write(text)
