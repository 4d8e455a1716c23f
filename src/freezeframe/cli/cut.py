"""`freezeframe cut`."""

from typing import Annotated

import typer


def command(
    backbone: Annotated[str, typer.Argument(help="A name of `freezeframe backbones`, or any of timm's.")],
    unfreeze: Annotated[
        str, typer.Argument(help="What trains: head, all, blocks=1, layers=4, from=layer4 or fraction=0.3.")
    ] = "head",
    size: Annotated[int | None, typer.Option(help="Height and width of the images, in pixels.")] = None,
    adapters: Annotated[
        int | None,
        typer.Option(metavar="RANK", min=1, help="Low-rank adapters of this rank in what unfreezes."),
    ] = None,
) -> None:
    """Show what of a network is frozen, what trains, and where the cut between them lies.

    Examples
    --------
        freezeframe cut resnet18 layers=4

        freezeframe cut efficientnet-lite0 blocks=1

        freezeframe cut efficientnet-lite0 blocks=1 --adapters 4
    """
    from rich.console import Console
    from rich.table import Table

    from freezeframe.backbones.unfreeze import parse
    from freezeframe.progress import size as bytes_of
    from freezeframe.recipe import Adapters
    from freezeframe.verbs.cut import cut

    wish = None if adapters is None else Adapters(rank=adapters)
    result = cut(backbone, parse(unfreeze), input_size=(size, size) if size else None, adapters=wish)
    at_cut = " + ".join(_shape(shape) for shape in result.shapes[:4]) + (
        " + ..." if len(result.shapes) > 4 else ""
    )
    table = Table(title=f"{backbone}, {unfreeze}")
    for title in ("part", "state", "parameters", "train", "output"):
        left = title in ("part", "state")
        table.add_column(title, justify="left" if left else "right", no_wrap=title != "part", overflow="fold")
    for index, row in enumerate(result.rows):
        if index == result.cut_before:
            table.add_row(f"[bold]cut: {at_cut}[/bold]", "", "", "", "", style="cyan")
        table.add_row(
            ("  " if row.kind == "layer" else "") + row.name,
            row.state,
            f"{row.parameters:,}",
            f"{row.trainable:,}",
            _shape(row.shape),
            style="" if row.trainable else "dim",
        )
    console = Console()
    console.print(table)
    total = result.prefix_multiply_adds + result.suffix_multiply_adds
    console.print(
        f"Stored: {bytes_of(result.activation_bytes)} an image and view (float32). Multiply-adds an image: "
        f"{result.prefix_multiply_adds / 1e6:,.1f} M once before the cut, {result.suffix_multiply_adds / 1e6:,.1f} M "
        f"in every epoch after it ({result.suffix_multiply_adds / total:.1%} of all).",
        soft_wrap=True,
        highlight=False,
    )


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
