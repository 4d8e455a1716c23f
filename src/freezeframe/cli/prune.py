"""`freezeframe prune`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Scope = StrEnum("Scope", ["whole", "suffix"])
Measure = StrEnum("Measure", ["multiply-adds", "parameters"])


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the smaller run.", show_default=False)],
    keep: Annotated[float, typer.Option(help="Share that is kept.")] = 0.5,
    of: Annotated[Measure, typer.Option(help="What --keep is a share of.")] = Measure["multiply-adds"],
    scope: Annotated[
        Scope,
        typer.Option(
            help="suffix: only what the run trained loses channels; the frozen part and its stored activations stay."
        ),
    ] = Scope["whole"],
    epochs: Annotated[int, typer.Option(help="Epochs of the training that recovers what pruning cost.")] = 10,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Ensemble or run to learn from besides the labels; RUN itself where left out."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field of the recovery's recipe: field=value. Repeatable."),
    ] = None,
) -> None:
    """Take channels out of a run's network, and train what is left for a while. The same line again resumes.

    Examples
    --------
        freezeframe prune runs/lite0 --out runs/half --keep 0.5

        freezeframe prune runs/lite0 --out runs/half --teacher runs/all

        freezeframe prune runs/lite0 --out runs/half --scope suffix --set learning_rate=0.003
    """
    from freezeframe.verbs.prune import prune

    prune(run, out, keep, scope.value, of.value, epochs, teacher, set_ or [])  # pyright: ignore[reportArgumentType]
