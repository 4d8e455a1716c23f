"""`freezeframe evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from freezeframe import files
from freezeframe.errors import UserError

# What fits on a narrow terminal; all metrics are in the file.
COLUMNS = {
    "roc_auc": "AUC",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}


def command(
    model: Annotated[Path, typer.Argument(help="Folder of an ensemble or of a run.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The evaluation's folder.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(help="Another data set, all of which is evaluated; the runs' own where left out."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test; test where left out, all with --data.")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="Positive class; the last of two where left out.")
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(help="'youden': choose the operating point anew; the ensemble's own where left out."),
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="Choose it anew: least sensitivity on validation images.")
    ] = None,
    specificity: Annotated[
        float | None, typer.Option(help="Choose it anew: least specificity on validation images.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples of the patients.")] = 2000,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="theirs=ours: what a label of --data is called here. Repeatable."),
    ] = None,
    exclude_known_patients: Annotated[
        bool,
        typer.Option(
            "--exclude-known-patients",
            help="Leave out images of --data whose patient's name occurs in training.",
        ),
    ] = False,
) -> None:
    """Compute every metric with its 95 % interval, for the ensemble and each member.

    Examples
    --------
        freezeframe evaluate runs/all --out eval/

        freezeframe evaluate runs/all --sensitivity 0.95 --out eval/

        freezeframe evaluate runs/all --data other/ --out eval-other/
    """
    from freezeframe.verbs.evaluate import evaluate

    folder = evaluate(
        model,
        out,
        data,
        split,
        positive,
        threshold,
        sensitivity,
        specificity,
        bootstrap,
        dict(map(_pair, map_ or [])),
        exclude_known_patients,
    )
    _print(files.read_json(folder / "metrics.json"), folder)


def _pair(text: str) -> tuple[str, str]:
    theirs, sign, ours = text.rpartition("=")
    if not sign or not theirs or not ours:
        raise UserError(f"--map got {text!r}.", "theirs=ours.", "For example --map 'Viral=pneumonia'.")
    return theirs, ours


def _print(metrics: dict[str, Any], folder: Path) -> None:
    console = Console(highlight=False)
    images = f"{metrics['n_images']:,} images of {metrics['n_patients']:,} patients"
    table = Table(
        title=f"{metrics['split']}: {images}",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("", overflow="fold")
    for column in COLUMNS.values():
        table.add_column(column, justify="right")
    rows = (
        {"ensemble": metrics["ensemble"], **metrics["members"]}
        if metrics["difference"]
        else metrics["members"]
    )
    for name, found in rows.items():
        table.add_row(name, *(_cell(found[metric]) for metric in COLUMNS))
    if metrics["difference"]:
        best = metrics["best_member"]["name"]
        table.add_row(f"ensemble - {best}", *(_cell(metrics["difference"][metric]) for metric in COLUMNS))
    console.print(table)
    point = metrics["operating_point"]
    if point is not None:
        console.print(
            f"Operating point ({point['rule']}, chosen on validation): '{point['positive_class']}' from "
            f"{point['threshold']:.3f}; sensitivity {_line(point['sensitivity'])}, "
            f"specificity {_line(point['specificity'])}",
            markup=False,
            soft_wrap=True,
        )
    console.print(metrics["summary"], markup=False, soft_wrap=True)
    console.print(
        f"All metrics, with 95 % intervals: {folder / 'metrics.json'}", markup=False, soft_wrap=True
    )


def _cell(found: dict[str, Any]) -> str:
    if found["value"] is None or found["low"] is None:
        return _line(found)
    return f"{found['value']:.3f}\n{found['low']:.3f}, {found['high']:.3f}"


def _line(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return "-"
    if found["low"] is None:
        return f"{found['value']:.3f}"
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
