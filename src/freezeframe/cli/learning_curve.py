"""`freezeframe study learning-curve`."""

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.cli.study import Workers
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe


def command(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE.yaml", help="YAML file with the recipe.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The study's folder; studies/<recipe's name>-learning-curve where left out."),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            help="Of the training patients, divided by commas: 1/8,1/4,1/2,1. Where left out: halves of halves, as "
            "long as five patients of each class are left, at most five sizes."
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Trainings for each share.")] = 3,
    target: Annotated[
        float | None, typer.Option(help="A score: how much data would it take?", show_default=False)
    ] = None,
    times: Annotated[float, typer.Option(help="How many times the data to forecast for.")] = 2.0,
    metric: Annotated[
        str, typer.Option(help="roc_auc, accuracy, balanced_accuracy, f1_macro or average_precision.")
    ] = "roc_auc",
    workers: Workers = None,
    lang: Annotated[str, typer.Option(help="Language of the answer and the report: en or es.")] = "en",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a field of the recipe: field=value. Repeatable.")
    ] = None,
) -> None:
    """Say how many images are needed: train on growing parts of the data, and forecast what more would bring.

    Examples
    --------
        freezeframe study learning-curve lite0.yaml --target 0.97

        freezeframe study learning-curve lite0.yaml --shares 1/8,1/4,1/2,1 --draws 5 --times 4
    """
    from freezeframe.report import language, study_curve
    from freezeframe.verbs.study_learning_curve import study_learning_curve

    words = language.load(lang)
    folder = out or Path("studies") / f"{recipe.stem}-learning-curve"
    answer = study_learning_curve(
        Recipe.read(recipe, set_ or []), folder, _shares(shares), draws, target, times, metric, workers, lang
    )
    typer.echo("\n".join(study_curve.sentences(answer, words)))
    typer.echo(f"Study: {folder}\nReport: {folder / 'report.html'}")


def _shares(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [_share(part) for part in text.split(",") if part.strip()]
    except (ValueError, ZeroDivisionError):
        raise UserError(
            f"The shares are '{text}'.", "numbers divided by commas.", "Write --shares 1/8,1/4,1/2,1."
        ) from None


def _share(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below) if below else float(above)
