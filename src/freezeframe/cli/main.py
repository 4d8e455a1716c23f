"""The command line: registers the verbs, and turns errors into messages and exit codes."""

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

import freezeframe
from freezeframe.cli import (
    backbones,
    bundle,
    cut,
    data,
    demo,
    demo_pacs,
    doctor,
    ensemble,
    evaluate,
    export,
    learning_curve,
    node,
    predict,
    prune,
    recipe,
    report,
    study,
    train,
)
from freezeframe.errors import FreezeframeError

INTERRUPTED = 130
app = typer.Typer(
    name="freezeframe",
    help="Freeze what a pretrained image model knows, compute that part once, train the rest on few images, "
    "and evaluate it honestly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")
app.add_typer(bundle.app, name="bundle")
app.add_typer(node.app, name="node")
study.app.command("learning-curve")(learning_curve.command)
app.command("train")(train.command)
app.command("ensemble")(ensemble.command)
app.command("prune")(prune.command)
app.command("evaluate")(evaluate.command)
app.command("export")(export.command)
app.command("predict")(predict.command)
app.command("recipe")(recipe.command)
app.command("report")(report.command)
app.command("backbones")(backbones.command)
app.command("cut")(cut.command)
app.command("doctor")(doctor.command)
app.command("demo")(demo.command)
app.command("demo-pacs")(demo_pacs.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"freezeframe {freezeframe.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options of all verbs."""


def run() -> None:
    """Run the command line: exit with 2 for the user's mistake, 1 for ours, 130 for Ctrl-C."""
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        app()
    except FreezeframeError as error:
        errors.print(f"freezeframe: {error}", style="red")
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # what typer makes of Ctrl-C
            errors.print("freezeframe: stopped. The same command goes on where it was.")
        raise
    except ModuleNotFoundError as error:
        if os.environ.get("FREEZEFRAME_TRACEBACK") or (error.name or "").startswith("freezeframe"):
            raise
        extra = "node" if "freezeframe.pacs" in sys.modules else "train"
        errors.print(
            f"freezeframe: the package {error.name!r} is not installed. "
            f"What to do: pip install 'freezeframe[{extra}]'",
            style="red",
        )
        sys.exit(2)
    except Exception as error:
        if os.environ.get("FREEZEFRAME_TRACEBACK"):
            raise
        errors.print(
            f"freezeframe: this is a mistake of freezeframe, not yours: {type(error).__name__}: {error}\n"
            "Set FREEZEFRAME_TRACEBACK=1 and run the command again to see where.",
            style="red",
        )
        sys.exit(1)
