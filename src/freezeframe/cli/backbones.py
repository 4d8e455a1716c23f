"""`freezeframe backbones`."""


def command() -> None:
    """List the networks: their cost, and where their pretrained weights come from.

    Any other name of timm's works in a recipe, too. Parameters and multiply-adds are of the backbone without a head.
    """
    from rich.console import Console
    from rich.table import Table

    from freezeframe.verbs.backbones import backbones

    table = Table()
    for title in ("name", "parameters", "multiply-adds", "input", "blocks"):
        table.add_column(title, justify="left" if title == "name" else "right", no_wrap=True)
    table.add_column("weights from", overflow="fold")
    table.add_column("on this disk", no_wrap=True)
    for backbone, source in backbones():
        table.add_row(
            backbone.name,
            f"{backbone.parameters / 1e6:.1f} M",
            f"{backbone.multiply_adds / 1e9:.2f} G",
            "{} x {}".format(*backbone.input_size),
            str(backbone.blocks),
            f"{source.kind} {source.name}" if source else "-",
            "yes" if source and source.path else "no",
        )
    Console().print(table)
