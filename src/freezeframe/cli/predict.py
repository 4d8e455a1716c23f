"""`freezeframe predict`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

Engine = StrEnum("Engine", ["onnxruntime", "openvino"])


def command(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder or .ffb file.", show_default=False)],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Images, DICOM files, folders, tables of image paths (.csv, .tsv, .parquet), or - for a list of "
            "paths on standard input.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The results: .csv, .parquet or .jsonl.", show_default=False)],
    operating_point: Annotated[
        str | None, typer.Option(help="Name of one of the bundle's; its first where left out.")
    ] = None,
    members: Annotated[
        bool, typer.Option("--members", help="Write each member's probabilities as well.")
    ] = False,
    heat_maps: Annotated[
        Path | None, typer.Option(help="Folder for a picture of each image with what spoke for the decision.")
    ] = None,
    lang: Annotated[str, typer.Option(help="Language of the warnings' sentences: en or es.")] = "en",
    engine: Annotated[Engine, typer.Option(help="What computes the networks.")] = Engine["onnxruntime"],
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that decode images; one a core where left out. With --cluster: parts at a time."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Of the networks; all cores where left out. With --cluster: cores of each task, 1."
        ),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Compute on a Ray cluster: its address, 'auto', or 'local'.")
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option(help="Refuse a bundle that is not signed with the key of this minisign public key."),
    ] = None,
) -> None:
    """Have a bundle answer for images, one or a million. A job that was killed goes on with the same command.

    Examples
    --------
        freezeframe predict chest.ffb film.dcm --out answer.csv

        freezeframe predict chest.ffb scans/ list.csv --out answers.parquet --members

        find /archive -name '*.dcm' | freezeframe predict chest.ffb - --out answers.jsonl
    """
    from freezeframe.verbs.predict import predict

    done = predict(
        bundle,
        paths,
        out,
        operating_point,
        members,
        lang,
        heat_maps,
        engine.value,  # pyright: ignore[reportArgumentType]
        workers,
        threads,
        cluster,
        public_key,
    )
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for note in done.notes:
        console.print(note, style="yellow")
    found = done.summary
    if found.unreadable:
        examples = "; ".join(found.examples)
        console.print(f"{found.unreadable:,} could not be read, such as {examples}", style="yellow")
    for kind, counts in (("decided", found.decisions), ("warned", found.warnings)):
        if counts:
            console.print(f"{kind}: {', '.join(f'{name} {count:,}' for name, count in counts.most_common())}")
    console.print(f"{found.images:,} images: {done.path}")
