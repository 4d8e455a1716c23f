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

    # Two tables, as one with addresses in it does not fit into 80 columns.
    style = {"box": SIMPLE_HEAD, "show_edge": False, "pad_edge": False}
    costs, weights = Table(**style), Table(**style)
    costs.add_column("name")
    for title in ("parameters", "multiply-adds", "input", "blocks"):
        costs.add_column(title, justify="right")
    for title in ("name", "on disk"):
        weights.add_column(title, no_wrap=True)
    weights.add_column("weights from", overflow="fold")
    for backbone, source in backbones():
        costs.add_row(
            backbone.name,
            f"{backbone.parameters / 1e6:.1f} M",
            f"{backbone.multiply_adds / 1e9:.2f} G",
            "{} x {}".format(*backbone.input_size),
            str(backbone.blocks),
        )
        weights.add_row(
            backbone.name,
            "yes" if source and source.path else "no",
            f"{source.kind}: {source.name}" if source else "-",
        )
    console = Console(highlight=False)
    console.print(costs, "", weights, sep="\n")
