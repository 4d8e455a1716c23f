"""List the networks and where their weights come from."""

from freezeframe.backbones.catalogue import ZOO, Backbone
from freezeframe.backbones.weights import Source, locate


def backbones() -> list[tuple[Backbone, Source | None]]:
    """List the networks with plain names, and where each one's pretrained weights come from on this machine.

    Neither imports torch nor asks the network; any other name of timm's works in a recipe, too.

    Returns
    -------
    list of (Backbone, Source or None)
        The source's `path` is None where the weights must still be fetched.

    Examples
    --------
    >>> [backbone.name for backbone, _ in backbones()][:3]
    ['resnet18', 'resnet50', 'densenet121']
    """
    return [(backbone, locate(backbone)) for backbone in ZOO.values()]
