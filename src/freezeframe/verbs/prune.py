"""Make a run's network smaller by taking channels out of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal


def prune(
    run: str | Path,
    out: str | Path,
    keep: float = 0.5,
    scope: Literal["whole", "suffix"] = "whole",
    measure: Literal["multiply-adds", "parameters"] = "multiply-adds",
    epochs: int = 10,
    teacher: str | Path | None = None,
    changes: Sequence[str] = (),
) -> Path:
    """Prune a finished run's network and train what is left for a while; the same call again resumes.

    Parameters
    ----------
    run : str or Path
        Folder of a finished run.
    out : str or Path
        Folder of the run that comes of it; it is made.
    keep : float
        Share in (0, 1) of what is in scope that is kept.
    scope : str
        ``"whole"``: all layers may lose channels, and all train afterwards. ``"suffix"``: only those that the run
        trained; its frozen part stays as it is, and so do the stored activations.
    measure : str
        What `keep` is a share of: ``"multiply-adds"`` or ``"parameters"``.
    epochs : int
        Of the recovery.
    teacher : str or Path, optional
        Ensemble or run that it learns from besides the labels; the unpruned run where left out.
    changes : sequence of str
        ``field=value`` pairs that change the recovery's recipe.

    Returns
    -------
    Path
        The folder of an ordinary run, with ``pruned.json`` beside.

    Raises
    ------
    UserError
        If the run is not finished, there is nothing to prune, so little can't be kept, or the folder holds another
        run.

    Examples
    --------
    >>> import freezeframe
    >>> freezeframe.prune("runs/lite0", out="runs/half", keep=0.5)  # doctest: +SKIP
    PosixPath('runs/half')
    """
    from freezeframe.bundle.prune import prune as make

    learned_from = None if teacher is None else Path(teacher)
    return make(Path(run), Path(out), keep, scope, measure, epochs, learned_from, changes)
