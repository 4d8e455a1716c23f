"""`freezeframe ensemble`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from freezeframe import files

Rule = StrEnum("Rule", ["mean", "mean-logits", "weighted", "vote"])
Score = StrEnum("Score", ["roc_auc", "accuracy", "balanced_accuracy", "log_loss", "optimal"])


def command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The ensemble's folder.", show_default=False)],
    rule: Annotated[Rule, typer.Option(help="How the members' answers are combined.")] = Rule["mean"],
    score: Annotated[
        Score, typer.Option(help="Validation score that --rule weighted makes the weights from.")
    ] = Score["roc_auc"],
    positive: Annotated[
        str | None,
        typer.Option(help="Class that the operating point is about; the last of two where left out."),
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="Operating point: least sensitivity; Youden's index where left out.")
    ] = None,
    specificity: Annotated[float | None, typer.Option(help="Operating point: least specificity.")] = None,
) -> None:
    """Combine runs. Weights and operating point are chosen on validation images only.

    Examples
    --------
        freezeframe ensemble runs/lite0 runs/lite1 --out runs/all

        freezeframe ensemble runs/lite* --rule weighted --out runs/all
    """
    from freezeframe.verbs.ensemble import ensemble

    folder = ensemble(runs, out, rule.value, score.value, positive, sensitivity, specificity)  # pyright: ignore[reportArgumentType]
    _print(files.read_json(folder / "ensemble.json"), folder)


def _print(made: dict[str, Any], folder: Path) -> None:
    console = Console(highlight=False)
    facts = made["validation"]
    images = f"{facts['images']:,} images of {facts['patients']:,} patients"
    table = Table(
        title=f"validation: {images}", title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    table.add_column("", overflow="fold")
    for column in ("weight", "AUC", "balanced accuracy", "log loss"):
        table.add_column(column, justify="right")
    rows = {**facts["scores"]["members"], f"ensemble ({made['rule']})": facts["scores"]["ensemble"]}
    for name, scores in rows.items():
        shown = (
            made["weights"].get(name),
            *(scores[key] for key in ("roc_auc", "balanced_accuracy", "log_loss")),
        )
        table.add_row(name, *("" if value is None else f"{value:.3f}" for value in shown))
    console.print(table)
    point = made["operating_point"]
    if point is not None:
        reached = point["validation"]
        console.print(
            f"Operating point ({point['rule']}): '{point['positive_class']}' from {point['threshold']:.3f}; "
            f"on validation sensitivity {reached['sensitivity']:.3f}, specificity {reached['specificity']:.3f}",
            markup=False,
            soft_wrap=True,
        )
    console.print(f"Ensemble: {folder}", markup=False, soft_wrap=True)
