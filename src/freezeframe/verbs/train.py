"""Train one network."""

from pathlib import Path
from typing import Any

from freezeframe.recipe import Recipe


def train(recipe: Recipe | dict[str, Any] | str | Path, out: str | Path) -> Path:
    """Train one network on a data set; the same call again resumes where it stopped.

    Parameters
    ----------
    recipe : Recipe, dict, str or Path
        The recipe, its fields, or the path of its YAML file.
    out : str or Path
        The run's folder; it is made.

    Returns
    -------
    Path
        The run's folder.

    Raises
    ------
    UserError
        If the recipe, the data or the folder won't do.

    Examples
    --------
    >>> import freezeframe
    >>> fields = {"data": "radiographs/", "backbone": "efficientnet-lite0", "unfreeze": {"blocks": 1}}
    >>> freezeframe.train(fields, out="runs/lite0")  # doctest: +SKIP
    PosixPath('runs/lite0')
    """
    from freezeframe.training.fit import train as fit

    if isinstance(recipe, str | Path):
        recipe = Recipe.read(Path(recipe))
    elif not isinstance(recipe, Recipe):
        recipe = Recipe.parse(recipe)
    return fit(recipe, Path(out))
