"""What a search has found, as plain data: its trials, the best of them, and which fields matter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.evaluation import metrics
from freezeframe.seeds import derive_seed
from freezeframe.study.folder import StudyFolder
from freezeframe.study.space import Space

# Fewer finished trials say nothing of which field matters.
TRIALS_FOR_IMPORTANCE = 10


@dataclass(frozen=True)
class Summary:
    """A search in a few figures.

    Attributes
    ----------
    metric : str
        What trials are compared by, on the validation images.
    trials, finished, pruned, failed : int
        How many were begun, and how they ended.
    best : str or None
        Name of the best finished trial; of equal ones the first.
    best_value : float or None
        Its score.
    default : float or None
        Score of trial 0, the base recipe.
    seconds : float
        Of all trials together, as if one had followed another.
    """

    metric: str
    trials: int
    finished: int
    pruned: int
    failed: int
    best: str | None
    best_value: float | None
    default: float | None
    seconds: float


def history(folder: Path) -> pd.DataFrame:
    """Read the trials of a search, as they stood when one last began or ended.

    Parameters
    ----------
    folder : Path
        Of the study.

    Returns
    -------
    DataFrame
        A row a trial, in their order: ``trial`` (int, 0 the base recipe), ``name``, ``state`` ('finished',
        'pruned', 'failed' or 'running'), ``value`` (float, the study's metric on validation; of a stopped trial the
        last that was reported), ``best`` (float, the best of the finished ones up to this one), ``seconds`` (float),
        then a column for each field of the space: a number, or the label of a choice; empty where the trial was not
        asked for it. No rows where the folder holds no search.
    """
    rows = _read(folder)
    study = StudyFolder(folder).read() if rows else None
    fields = list(study.search.space) if study is not None and study.search is not None else []
    columns = ["trial", "name", "state", "value", "seconds", *fields]
    table = pd.DataFrame([{**row, **row["point"]} for row in rows], columns=columns)
    table[["value", "seconds"]] = table[["value", "seconds"]].astype(np.float64)
    finished = table["value"].where(table["state"] == "finished")
    lower = study is not None and study.metric in metrics.LOWER_IS_BETTER
    best = (finished.cummin() if lower else finished.cummax()).ffill()
    table.insert(4, "best", best)
    return table


def summarise(folder: Path) -> Summary:
    """Say how a search went.

    Raises
    ------
    UserError
        If the folder holds no search.
    """
    table = history(folder)
    if table.empty:
        raise UserError(f"{folder} holds no trials of a search.", "the folder of a study with `search:`.")
    metric = StudyFolder(folder).read().metric
    finished = [row for row in _read(folder) if row["state"] == "finished"]
    sign = 1 if metric in metrics.LOWER_IS_BETTER else -1
    best = min(finished, key=lambda row: sign * row["value"], default=None)
    default = next((row["value"] for row in finished if row["trial"] == 0), None)
    states = table["state"].tolist()
    return Summary(
        metric,
        len(table),
        len(finished),
        states.count("pruned"),
        states.count("failed"),
        None if best is None else best["name"],
        None if best is None else best["value"],
        default,
        float(np.nansum(table["seconds"].to_numpy())),
    )


def importances(folder: Path) -> dict[str, float]:
    """Say what share of the scores' variance each field explains (functional ANOVA, Hutter et al., ICML 2014).

    It is computed from a random forest over the finished trials. Fields that were asked for only under conditions are
    left out, as is everything where there are fewer than 10 finished trials or all have the same score.

    Parameters
    ----------
    folder : Path
        Of the study.

    Returns
    -------
    dict of str to float
        Field -> share in [0, 1], summing to 1, the largest first; empty where nothing can be said.
    """
    rows = [row for row in _read(folder) if row["state"] == "finished" and row["in_space"]]
    if len(rows) < TRIALS_FOR_IMPORTANCE or len({row["value"] for row in rows}) == 1:
        return {}
    import optuna

    study = StudyFolder(folder).read()
    distributions = {axis.name: axis.distribution() for axis in Space(study).axes}
    lower = study.metric in metrics.LOWER_IS_BETTER
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = optuna.create_study(direction="minimize" if lower else "maximize")
    for row in rows:
        known = {name: distributions[name] for name in row["point"]}
        trials.add_trial(optuna.create_trial(params=row["point"], distributions=known, value=row["value"]))
    seed = derive_seed(study.seeds[0], "importance") % 2**32
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return optuna.importance.get_param_importances(trials, evaluator=evaluator)


def _read(folder: Path) -> list[dict[str, Any]]:
    path = Path(folder) / "trials.json"
    return files.read_json(path)["trials"] if path.exists() else []
