"""Run a study."""

from pathlib import Path
from typing import Any

import numpy as np

from freezeframe.errors import UserError
from freezeframe.evaluation.metrics import LOWER_IS_BETTER
from freezeframe.progress import say
from freezeframe.study import engine, results
from freezeframe.study.folder import StudyFolder
from freezeframe.study.results import Cell, Results
from freezeframe.study.spec import Ensemble, Study
from freezeframe.verbs.ensemble import ensemble
from freezeframe.verbs.study_plan import as_study, folder_of


def study_run(
    study: Study | dict[str, Any] | str | Path,
    out: str | Path | None = None,
    workers: int | None = None,
    retry: bool = False,
) -> Path:
    """Run all trainings of a study that are not done; the same call again goes on where it was.

    Parameters
    ----------
    study : Study, dict, str or Path
        The study, its fields, or the path of its YAML file.
    out : str or Path, optional
        The study's folder; ``studies/<its name>`` where left out.
    workers : int, optional
        Processes; one a core, or one beside a GPU, where left out. Their number changes no result.
    retry : bool
        Whether trainings that failed are tried again.

    Returns
    -------
    Path
        The study's folder.

    Raises
    ------
    UserError
        If the study or its data won't do, or every training failed.

    Examples
    --------
    >>> import freezeframe
    >>> axes = {"unfreeze": ["head", {"blocks": 1}], "augment": ["none", "flip"]}
    >>> base = {"data": "images/", "backbone": "efficientnet-lite0"}
    >>> freezeframe.study_run({"recipe": base, "axes": axes, "seeds": 3}, out="studies/depth")  # doctest: +SKIP
    PosixPath('studies/depth')
    """
    known = as_study(study)
    folder = StudyFolder(folder_of(known, out))
    board = engine.run(known, folder, workers, retry)
    if not board.finished:
        name, reason = next(iter(board.failed.items()))
        raise UserError(
            f"Every training of the study failed; {name}: {reason}",
            action=f"Mend it and run the same command with --retry. {folder.path / 'failures'} has the details.",
        )
    if known.ensembles:
        _join(known, folder, results.read(folder.path))
    return folder.path


def _join(study: Study, folder: StudyFolder, found: Results) -> None:
    """Make the study's ensembles of its runs."""
    for name, wish in study.ensembles.items():
        members = _members(wish, found)
        if not members:
            say(f"The ensemble {name} has no members: no finished training fits {wish.where}.")
            continue
        ensemble([cell.folder for cell in members], folder.ensemble(name), wish.rule, positive=study.positive)


def _members(wish: Ensemble, found: Results) -> list[Cell]:
    chosen = [
        cell
        for cell in found.finished
        if all(
            str(cell.seed if axis == "seed" else cell.values.get(axis)) == str(label)
            for axis, label in wish.where.items()
        )
    ]
    if wish.top is None:
        return chosen
    sign = -1 if found.metric in LOWER_IS_BETTER else 1
    settings: dict[str, list[Cell]] = {}
    for cell in chosen:
        settings.setdefault(cell.setting, []).append(cell)

    def score(cells: list[Cell]) -> float:
        mean = float(np.mean([cell.scores["validation"][found.metric] for cell in cells]))
        return sign * mean if np.isfinite(mean) else -np.inf

    best = sorted(settings.values(), key=score, reverse=True)[: wish.top]
    return [cell for cells in best for cell in cells]
