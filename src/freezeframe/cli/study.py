"""`freezeframe study`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from freezeframe.cli.ensemble import Rule

app = typer.Typer(
    help="Run many trainings that answer one question, and say which differences are real.",
    no_args_is_help=True,
)

StudyFile = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY",
        help="The study's YAML file, or a name from `freezeframe study recipes`.",
        show_default=False,
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The study's folder.", show_default=False)]
Cost = StrEnum("Cost", ["parameters", "seconds", "memory"])
Out = Annotated[Path | None, typer.Option(help="The study's folder; studies/<name> where left out.")]
Workers = Annotated[
    int | None, typer.Option(help="Processes; one a core, or one beside a GPU. Changes no result.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field of the base recipe: field=value. Repeatable."),
]
Backbone = Annotated[
    str | None,
    typer.Option(help="Networks, divided by commas, in the place of those that the study names: for a machine "
                 "that can't reach the others' weights."),
]  # fmt: skip

SHOWN = 8  # settings, of those that a study ends with


@app.callback()
def study() -> None:
    """Hold the commands of `freezeframe study`."""


@app.command("plan")
def plan_command(
    study: StudyFile,
    out: Out = None,
    workers: Workers = None,
    set_: Set = None,
    backbone: Backbone = None,
) -> None:
    """Say what a study will cost, before anything runs.

    Examples
    --------
        freezeframe study plan study.yaml

        freezeframe study plan recipes/skin-grid.yaml --backbone efficientnet-lite0
    """
    from freezeframe.progress import duration, size
    from freezeframe.study.spec import Study
    from freezeframe.verbs.study_plan import study_plan

    known = Study.read(study, set_ or [], _names(backbone))
    plan = study_plan(known, out, workers)
    console = Console(highlight=False)
    table = Table(
        title=f"{known.name}: {plan.trainings} trainings, {plan.done} of them done",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("network", overflow="fold")
    for column in ("trainings", "cuts", "pictures", "disk", "frozen part"):
        table.add_column(column, justify="right")
    for group in plan.groups:
        seconds = group.seconds + group.decoding_seconds
        table.add_row(
            group.backbone,
            f"{group.trainings:,}",
            str(len(group.cuts)),
            f"{group.pictures:,}",
            size(group.bytes),
            duration(seconds),
        )
    console.print(table)
    console.print(
        f"With {plan.workers} processes: {duration(plan.seconds)}; {plan.prefix_images:,} pictures through frozen "
        f"parts, {size(plan.store_bytes)} on disk.",
        soft_wrap=True,
    )
    ratio = (
        f", {plan.naive_seconds / plan.seconds:.1f} times as long" if plan.seconds and not plan.done else ""
    )
    console.print(
        f"Naively, one after another, with the frozen part recomputed: {duration(plan.naive_seconds)}{ratio}; "
        f"{plan.naive_images:,} pictures.",
        soft_wrap=True,
    )
    if any(cell.recipe.patience and cell.recipe.patience < cell.recipe.epochs for cell in known.cells()):
        console.print("Trainings that stop early make both less.")


@app.command("run")
def run_command(
    study: StudyFile,
    out: Out = None,
    workers: Workers = None,
    set_: Set = None,
    backbone: Backbone = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try trainings again that failed.")] = False,
) -> None:
    """Run a study. The same line again goes on where it was; a second process helps.

    Examples
    --------
        freezeframe study run study.yaml --out studies/depth

        freezeframe study run recipes/skin-grid.yaml --set epochs=5
    """
    from freezeframe.study.spec import Study
    from freezeframe.verbs.study_run import study_run

    known = Study.read(study, set_ or [], _names(backbone))
    folder = study_run(known, out, workers, retry)
    print_best(folder)


@app.command("recipes")
def recipes_command() -> None:
    """List the published studies that come with freezeframe, and what they ask.

    Examples
    --------
        freezeframe study recipes

        freezeframe study run skin-grid --backbone efficientnet-lite0
    """
    from freezeframe.study import shipped

    console = Console(highlight=False)
    for name, path in shipped.paths().items():
        console.print(f"{name}: {shipped.first_line(path)}\n    {path}", markup=False, soft_wrap=True)


@app.command("stop")
def stop_command(study: Folder) -> None:
    """Stop a study that goes on in a cluster. What was done is kept, and `study run` goes on from there.

    Examples
    --------
        freezeframe study stop /shared/studies/depth
    """
    from freezeframe.study.ray_engine import stop

    found = stop(str(study))
    typer.echo(f"Stopped: {study}" if found else f"No study in the cluster works at {study}.")


@app.command("report")
def report_command(
    study: Folder,
    out: Annotated[
        Path | None, typer.Option(help="The page; report.html in the study's folder where left out.")
    ] = None,
    lang: Annotated[str, typer.Option(help="Language: en or es.")] = "en",
) -> None:
    """Write what a study found, finished or not, as one page, with its figures and tables as files beside it.

    Examples
    --------
        freezeframe study report studies/depth

        freezeframe study report studies/depth --lang es --out informe.html
    """
    from freezeframe.verbs.study_report import study_report

    Console(highlight=False).print(str(study_report(study, out, lang)), markup=False, soft_wrap=True)


@app.command("best")
def best_command(
    study: Folder,
    cheapest_within: Annotated[
        float | None,
        typer.Option(
            help="The cheapest setting at most so far from the best validation score; the best where left out."
        ),
    ] = None,
    cost: Annotated[Cost, typer.Option(help="What is cheap.")] = Cost.parameters,
    metric: Annotated[str | None, typer.Option(help="The study's own where left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the recipe; printed where left out.")] = None,
) -> None:
    """Give the recipe to go on with; chosen on validation images only.

    Examples
    --------
        freezeframe study best studies/depth --out best.yaml

        freezeframe study best studies/depth --cheapest-within 0.01 --cost seconds
    """
    from freezeframe.verbs.study_best import study_best

    found = study_best(study, cheapest_within, metric, cost.value, out)  # pyright: ignore[reportArgumentType]
    said = f"{found.setting}: validation {found.metric} {found.validation:.4f}, the best has "
    said += f"{found.best_validation:.4f}"
    if found.cost and found.best_cost:
        said += f"; {cost.value}: {found.cost:,.0f}, the best has {found.best_cost:,.0f}"
    Console(stderr=True, highlight=False).print(f"{said}.", markup=False, soft_wrap=True)
    if out is None:
        typer.echo(yaml.safe_dump(found.recipe.to_dict(), sort_keys=False, allow_unicode=True), nl=False)
    else:
        typer.echo(f"Recipe: {out}\nNext: freezeframe train {out}")


@app.command("ensemble")
def ensemble_command(
    study: Folder,
    top: Annotated[int, typer.Option(min=1, help="The best settings, by their validation score.")] = 3,
    rule: Annotated[Rule, typer.Option(help="How the members' answers are combined.")] = Rule["mean"],
    metric: Annotated[str | None, typer.Option(help="The study's own where left out.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The ensemble's folder; ensembles/top<n> in the study's where left out."),
    ] = None,
) -> None:
    """Join the runs of the best settings into an ensemble.

    Examples
    --------
        freezeframe study ensemble studies/depth --top 3 --rule weighted
    """
    from freezeframe.verbs.study_best import study_ensemble

    folder = study_ensemble(study, top, rule.value, metric, out)  # pyright: ignore[reportArgumentType]
    Console(highlight=False).print(f"Ensemble: {folder}", markup=False, soft_wrap=True)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


def print_best(folder: Path) -> None:
    """Print the best settings of a study, or a search's best trials and the base recipe, and what failed."""
    from freezeframe.study import results, settings
    from freezeframe.study.trials import trial_name

    console = Console(highlight=False)
    found = results.read(folder)
    searched = bool(found.specification.get("search"))
    ranked = settings.rank(settings.summarise(found, tested=False), found.metric)
    table = Table(
        title=f"best on validation, of {len(found.settings)} {'trials' if searched else 'settings'}",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("trial" if searched else "setting", overflow="fold")
    for column in (f"validation {found.metric}", "test, 95 % interval"):
        table.add_column(column, justify="right")
    # Which all other trials have to beat.
    base = trial_name(0) if searched else ""
    shown = [*ranked[:SHOWN], *(setting for setting in ranked[SHOWN:] if setting.name == base)]
    for setting in shown:
        # A test score with its interval takes a moment, so only those that are shown get one.
        test = settings.estimate(found, setting.cells, (found.metric,)).get(found.metric)
        score = "" if test is None or test.value is None else f"{test.value:.4f}"
        if test is not None and test.low is not None and test.high is not None:
            score += f" ({test.low:.3f} to {test.high:.3f})"
        name = f"{setting.name}, the base recipe" if setting.name == base else setting.name
        table.add_row(name, f"{setting.validation[found.metric]:.4f}", score)
    console.print(table)
    if searched and ranked:
        values = ", ".join(f"{field} {label}" for field, label in ranked[0].values.items())
        console.print(f"{ranked[0].name}: {values}", markup=False, soft_wrap=True)
    failed = [cell for cell in found.cells if cell.status == "failed"]
    for cell in failed[:5]:
        console.print(
            f"{cell.name} failed: {cell.failure.get('error')}", style="red", markup=False, soft_wrap=True
        )
    console.print(f"Study: {folder}\nNext: freezeframe study report {folder}", markup=False, soft_wrap=True)
