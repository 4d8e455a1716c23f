"""`freezeframe data pull`."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    origin: Annotated[
        str,
        typer.Option(
            "--from", help="node: what readers have judged; pacs: by dates or numbers.", show_default=False
        ),
    ],
    config: Annotated[Path, typer.Option(help="The node's configuration, node.yaml.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to fill.", show_default=False)],
    source: Annotated[str, typer.Option(help="Which PACS of the configuration's sources.")] = "",
    first_date: Annotated[str, typer.Option(help="Of the studies, YYYY-MM-DD.")] = "",
    last_date: Annotated[str, typer.Option(help="Of the studies, YYYY-MM-DD.")] = "",
    modality: Annotated[
        list[str] | None, typer.Option(help="Such as DX; may be given several times.")
    ] = None,
    accessions: Annotated[
        Path | None, typer.Option(help="Table with a column accession, and perhaps label.")
    ] = None,
    receive: Annotated[str, typer.Option(help="TITLE:PORT that a PACS without DICOMweb sends to.")] = "",
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Also images to which no reader gave a label.")
    ] = False,
    dates: Annotated[
        str, typer.Option(help="shift: moved by one number of days a patient; remove: none.")
    ] = "shift",
    stations: Annotated[Path | None, typer.Option(help="YAML table of where stations burn text in.")] = None,
    salt: Annotated[
        Path | None, typer.Option(help="File of the pseudonyms' secret; in the node's folder where left out.")
    ] = None,
) -> None:
    """Make a training set of this hospital's own images, without their patients.

    Examples
    --------
        freezeframe data pull --from node --config node.yaml --out local/

        freezeframe data pull --from pacs --config node.yaml --out local/ --accessions cases.csv
    """
    from freezeframe.verbs.pull import pull

    made = pull(
        origin,  # type: ignore[arg-type]
        config,
        out,
        source=source,
        first=first_date,
        last=last_date,
        modalities=tuple(modality or ()),
        accessions=accessions,
        receive=receive,
        keep_unlabelled=keep_unlabelled,
        dates=dates,
        stations=stations,
        salt=salt,
    )
    typer.echo(made.table)
    typer.echo(f"{made.images:,} images of {made.patients:,} patients")
    for label, count in sorted(made.labels.items()):
        typer.echo(f"{count:>8,}  {label or '(no label)'}")
    for reason, count in sorted(made.left_out.items()):
        typer.echo(f"{count:>8,}  left out: {reason}", err=True)
