"""`freezeframe doctor`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

SIGNS = {"good": "[green]good[/]", "missing": "[red]missing[/]", "note": "[yellow]note[/]"}


def command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, for a program or a report of a fault.")
    ] = False,
) -> None:
    """Say what this machine has, and what to do about what is missing.

    Examples
    --------
        freezeframe doctor

        freezeframe doctor --json
    """
    from freezeframe.verbs.doctor import doctor

    findings = doctor()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
        return
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for title in ("", "What", "State", "Found, and what to do"):
        table.add_column(title, overflow="fold")
    topic = ""
    for finding in findings:
        if topic not in ("", finding.topic):
            table.add_section()
        text = finding.detail + (f"\n-> {finding.action}" if finding.action else "")
        heading = finding.topic if finding.topic != topic else ""
        table.add_row(heading, finding.name, SIGNS[finding.state], escape(text))
        topic = finding.topic
    Console().print(table)
