"""`freezeframe export`."""

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.cli.bundle import key_password
from freezeframe.verbs.optimise import VARIANTS


def command(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Folder of an ensemble or of a run.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option(help="The bundle: a folder, or one file NAME.ffb.", show_default=False)
    ],
    name: Annotated[str | None, typer.Option(help="Of the bundle; that of --out where left out.")] = None,
    codes: Annotated[
        Path | None,
        typer.Option(help="CSV with the classes' codes: label,scheme,value,meaning (see bundle codes)."),
    ] = None,
    licence: Annotated[str, typer.Option(help="The bundle's licence: a text, or a file that holds it.")] = "",
    intended: Annotated[
        Path | None,
        typer.Option(
            help="YAML file that says what the model is for: use, modalities, body_parts, views, ages. "
            "The rest is read from the training images' DICOM headers."
        ),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(help="Class that operating points are about; the ensemble's where left out."),
    ] = None,
    sensitivity: Annotated[
        list[float] | None,
        typer.Option(
            help="Add an operating point with at least this sensitivity. Can be given several times."
        ),
    ] = None,
    specificity: Annotated[
        list[float] | None, typer.Option(help="Add one with at least this specificity.")
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="Evaluation of this model for the card; its own test images where left out."),
    ] = None,
    secret_key: Annotated[
        Path | None, typer.Option(help="Sign with this minisign key (see bundle keys).")
    ] = None,
    screening: Annotated[
        bool,
        typer.Option(
            "--screening/--no-screening",
            help="Describe the training images, so that images unlike them are flagged.",
        ),
    ] = True,
    optimise: Annotated[
        bool,
        typer.Option(
            "--optimise",
            help="Make smaller and faster variants as well, each a bundle in --out, with a table to choose from.",
        ),
    ] = False,
    variants: Annotated[
        str, typer.Option(help="Of --optimise: some of float32, int8, pruned, distilled, <these two>-int8.")
    ] = ",".join(VARIANTS),
    keep: Annotated[float, typer.Option(help="Share of the computation that 'pruned' keeps.")] = 0.5,
    student: Annotated[
        Path | None,
        typer.Option(help="Recipe that 'distilled' trains; the smallest member's where left out."),
    ] = None,
    limit: Annotated[
        float,
        typer.Option(
            help="AUC that a variant may lose on validation images, at the end of the 95 % interval."
        ),
    ] = 0.01,
) -> None:
    """Export a model to a bundle that answers without torch, and prove on validation images that it answers the same.

    Examples
    --------
        freezeframe export runs/all --out chest/

        freezeframe export runs/all --sensitivity 0.95 --licence CC-BY-4.0 --intended chest.yaml --out chest.ffb

        freezeframe export runs/all --optimise --variants int8,distilled,distilled-int8 --out variants/
    """
    password = "" if secret_key is None else key_password(secret_key)
    if optimise:
        from freezeframe.verbs.optimise import optimise as make_variants

        made = make_variants(
            model, out, variants.split(","), keep, student=student, limit=limit, name=name, codes=codes,
            licence=licence, intended=intended, positive=positive, sensitivity=sensitivity or (),
            specificity=specificity or (), secret_key=secret_key, password=password, screening=screening,
        )  # fmt: skip
        typer.echo(made.with_suffix(".md").read_text(encoding="utf-8"))
        return
    from freezeframe.verbs.export import export

    made = export(
        model,
        out,
        name,
        codes,
        licence,
        intended,
        positive,
        sensitivity or (),
        specificity or (),
        evaluation,
        secret_key,
        password,
        screening,
    )
    typer.echo(f"Bundle: {made}")
