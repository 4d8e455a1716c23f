"""`freezeframe data`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from freezeframe.cli import phantom, preview, pull

app = typer.Typer(help="Look at a data set before training on it.", no_args_is_help=True)
STYLES = {"serious": "bold red", "caution": "yellow", "note": "dim"}
ROWS = 12

app.command("phantom")(phantom.command)
app.command("preview")(preview.command)
app.command("pull")(pull.command)


@app.callback()
def data() -> None:
    """Hold the commands of `freezeframe data`."""


@app.command("inspect")
def inspect_command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of images, or a table of them.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the page, the tables and the JSON; nothing is saved where left out."),
    ] = None,
    lang: Annotated[str, typer.Option(help="Language: en or es.")] = "en",
) -> None:
    """Count, compare and measure the images: unreadable ones, duplicates, leaks between splits, shortcuts.

    Examples
    --------
        freezeframe data inspect images/

        freezeframe data inspect table.csv --out inspect/ --lang es
    """
    from freezeframe.report import language
    from freezeframe.verbs.inspect import inspect
    from freezeframe.verbs.inspection_page import facts, tables
    from freezeframe.verbs.inspection_words import sentence, words

    known = words(lang)
    inspection = inspect(directory, out, lang)
    console = Console(highlight=False)
    console.print(f"[bold]{escape(known['title'].format(root=inspection.manifest.root))}[/]", soft_wrap=True)
    console.print(facts(inspection, lang))
    for finding in inspection.findings:
        style = STYLES[finding.level]
        text = escape(sentence(finding.key, finding.values, lang))
        console.print(f"[{style}]{known[finding.level]:>8}[/]  {text}", soft_wrap=True)
    if not inspection.findings:
        console.print(f"[green]{known['no_warnings']}[/]")
    for title, header, rows in tables(inspection, lang):
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for name in header:
            table.add_column(name, overflow="fold")
        for row in rows[:ROWS]:
            table.add_row(*(escape(cell) for cell in row))
        if len(rows) > ROWS:
            table.add_row(f"[dim]{known['more'].format(count=len(rows) - ROWS)}[/]")
        console.print()
        console.print(table)
    spoken = language.load(lang)
    for note in inspection.manifest.notes:
        console.print(f"[dim]{known['note']:>8}  {escape(spoken.note(note)[0])}[/]", soft_wrap=True)
    if out is not None:
        console.print(f"\n{escape(known['saved'].format(folder=out / 'inspection.html'))}", soft_wrap=True)
