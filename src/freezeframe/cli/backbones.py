"""`freezeframe backbones`."""


def command() -> None:
    """List the networks: their cost, and where their pretrained weights come from.

    Any other name of timm's works in a recipe, too. Parameters and multiply-adds are of the backbone without a head.

    Examples
    --------
        freezeframe backbones
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from freezeframe.verbs.backbones import backbones

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    # The source takes the room that is left, and goes on in a second line where that is too little.
    for title in ("name", "params", "mult-adds", "input", "blocks", "on disk"):
        table.add_column(title, justify="left" if title in ("name", "on disk") else "right", no_wrap=True)
    table.add_column("weights from", overflow="fold")
    for backbone, source in backbones():
        height, width = backbone.input_size
        table.add_row(
            backbone.name,
            f"{backbone.parameters / 1e6:.1f} M",
            f"{backbone.multiply_adds / 1e9:.2f} G",
            str(height) if height == width else f"{height}x{width}",
            str(backbone.blocks),
            "yes" if source and source.path else "no",
            f"{source.kind}: {source.name}" if source else "-",
        )
    Console(highlight=False).print(table)
