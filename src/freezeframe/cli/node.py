"""`freezeframe node`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

Role = Literal["viewer", "reader", "admin", "sender"]


class Part(StrEnum):
    """What may run without the rest."""

    INTAKE = "intake"
    READING = "reading"
    DELIVERY = "delivery"
    WEB = "web"


class _RunsByDefault(TyperGroup):
    """Takes what names no command for the arguments of `run`: `freezeframe node --config node.yaml chest.ffb`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride] - typer has a click of its own
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunsByDefault,
    help="Serve a bundle beside a PACS: take studies, read them, answer with DICOM objects, show them on a page.",
    no_args_is_help=True,
)
user_app = typer.Typer(help="Who may log in.", no_args_is_help=True)
app.add_typer(user_app, name="user")

Configuration = Annotated[
    Path,
    typer.Option("--config", metavar="FILE", help="The node's configuration (YAML).", show_default=False),
]

UserName = Annotated[str, typer.Argument(help="What they log in with.", show_default=False)]


@app.command("run")
def run_command(
    config: Configuration,
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Serves as the bundle 'default', whatever the file says.", show_default=False),
    ] = None,
    only: Annotated[
        list[Part] | None, typer.Option(help="Run only this part; may be repeated.", show_default=False)
    ] = None,
) -> None:
    """Run the node until it is stopped (Ctrl-C, SIGTERM). `run` may be left out.

    Examples
    --------
        freezeframe node --config node.yaml chest.ffb

        freezeframe node run --config node.yaml --only reading
    """
    from freezeframe.verbs.node import run

    run(config, bundle, [part.value for part in only or ()])


@app.command("init")
def init_command(
    folder: Annotated[Path, typer.Argument(help="To hold node.yaml.", show_default=False)],
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder or .ffb file.", show_default=False)],
    pacs: Annotated[
        str | None,
        typer.Option(metavar="TITLE@HOST:PORT", help="The PACS that sends images and takes results."),
    ] = None,
    lang: Annotated[str, typer.Option(help="Language of the results: en or es.")] = "en",
) -> None:
    """Write a first node.yaml, with a comment on each line.

    Examples
    --------
        freezeframe node init node/ chest.ffb --pacs ORTHANC@10.0.0.5:4242
    """
    from freezeframe.verbs.node import init

    typer.echo(f"Written: {init(folder, bundle, pacs, lang)}")
    typer.echo(f"Next: freezeframe node user add NAME --role admin --config {folder}/node.yaml")
    typer.echo(f"      freezeframe node doctor --config {folder}/node.yaml")
    typer.echo(f"      freezeframe node --config {folder}/node.yaml")


@app.command("doctor")
def doctor_command(
    config: Configuration, lang: Annotated[str, typer.Option(help="en or es.")] = "en"
) -> None:
    """Say what is open, what is missing, and what to do about it; exits with 2 where there is a problem.

    Examples
    --------
        freezeframe node doctor --config node.yaml
    """
    from freezeframe.verbs.node import examine

    found = examine(config, lang)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("", "what", "to do") if lang == "en" else ("", "qué", "qué hacer"):
        table.add_column(title, overflow="fold")
    levels = {"en": {}, "es": {"ok": "bien", "warning": "aviso", "problem": "problema"}}
    styles = {"ok": "green", "warning": "yellow", "problem": "red"}
    for entry in found:
        style = styles[entry.level]
        table.add_row(
            f"[{style}]{levels[lang].get(entry.level, entry.level)}",
            escape(entry.sentence),
            escape(entry.action),
        )
    Console(highlight=False).print(table)
    if any(entry.level == "problem" for entry in found):
        raise typer.Exit(2)


@app.command("rules")
def rules_command(
    config: Configuration,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM files.", show_default=False)],
) -> None:
    """Say which rules would have an image read, and why the others would not.

    Examples
    --------
        freezeframe node rules --config node.yaml film.dcm
    """
    from freezeframe.verbs.node import try_rules

    for path, rule, problems in try_rules(config, files):
        typer.echo(f"{path}: {rule}: {'read' if not problems else 'not read: ' + '; '.join(problems)}")


@app.command("fields")
def fields_command() -> None:
    """Print every field of node.yaml, with its default and meaning.

    Examples
    --------
        freezeframe node fields
    """
    from freezeframe.pacs.configuration_table import all_fields

    if sys.stdout.isatty():
        Console().print(Markdown(all_fields()))
    else:
        typer.echo(all_fields())


@app.command("audit")
def audit_command(
    config: Configuration,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="LINE:HASH",
            help="Newest line as the log once noted it; says whether the trail was cut.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check the chain of the audit trail; exits with 1 where a line was changed or is missing.

    Examples
    --------
        freezeframe node audit --config node.yaml

        freezeframe node audit --config node.yaml --head 1207:5f2c...
    """
    from freezeframe.verbs.node import check_audit

    checked = check_audit(config, head)
    typer.echo(f"{checked.lines:,} lines are whole.")
    if checked.broken is not None:
        typer.echo(checked.problem)
        raise typer.Exit(1)


@app.command("rerun")
def rerun_command(
    config: Configuration,
    study: Annotated[
        list[str] | None,
        typer.Argument(metavar="UID...", help="Studies; all that were put aside where left out."),
    ] = None,
) -> None:
    """Read studies again that were put aside.

    Examples
    --------
        freezeframe node rerun --config node.yaml

        freezeframe node rerun --config node.yaml 1.2.826.0.1.3680043.8.498.1
    """
    from freezeframe.verbs.node import rerun

    typer.echo(f"{rerun(config, study or ()):,} to be read again.")


@app.command("withhold")
def withhold_command(
    config: Configuration,
    destination: Annotated[
        str, typer.Argument(help="Its name; it need no longer be in node.yaml.", show_default=False)
    ],
) -> None:
    """Give up for good what still waits for a destination, such as one that is no longer there.

    Examples
    --------
        freezeframe node withhold old-archive --config node.yaml
    """
    from freezeframe.verbs.node import withhold

    typer.echo(f"{withhold(config, destination):,} withheld.")


@user_app.command("add")
def add_user_command(
    config: Configuration,
    name: UserName,
    role: Annotated[
        Role,
        typer.Option(
            help="viewer sees, reader gives feedback, admin does all, sender only sends by STOW-RS."
        ),
    ],
) -> None:
    """Add somebody who may log in; asks for a password, or reads it from standard input.

    Examples
    --------
        freezeframe node user add radiologist --role reader --config node.yaml
    """
    from freezeframe.verbs.node import add_user

    add_user(config, name, role, _password())
    typer.echo(f"{name} may log in as {role}.")


@user_app.command("password")
def password_command(config: Configuration, name: UserName) -> None:
    """Give somebody a new password; ends their logins.

    Examples
    --------
        freezeframe node user password radiologist --config node.yaml
    """
    from freezeframe.verbs.node import change_password

    change_password(config, name, _password())
    typer.echo(f"{name} has a new password.")


@user_app.command("disable")
def disable_command(config: Configuration, name: UserName) -> None:
    """Let somebody in no longer; ends their logins.

    Examples
    --------
        freezeframe node user disable radiologist --config node.yaml
    """
    from freezeframe.verbs.node import disable_user

    disable_user(config, name)
    typer.echo(f"{name} may no longer log in.")


@user_app.command("enable")
def enable_command(config: Configuration, name: UserName) -> None:
    """Let somebody in again who was disabled.

    Examples
    --------
        freezeframe node user enable radiologist --config node.yaml
    """
    from freezeframe.verbs.node import enable_user

    enable_user(config, name)
    typer.echo(f"{name} may log in again.")


@user_app.command("list")
def list_command(config: Configuration) -> None:
    """List who may log in.

    Examples
    --------
        freezeframe node user list --config node.yaml
    """
    from freezeframe.verbs.node import list_users

    for user in list_users(config):
        typer.echo(f"{user.name}\t{user.role}{'	disabled' if user.disabled else ''}")


def _password() -> str:
    if sys.stdin.isatty():
        return typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return sys.stdin.readline().rstrip("\r\n")
