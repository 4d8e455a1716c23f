"""Say how many images are needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from freezeframe import files
from freezeframe.recipe import Recipe
from freezeframe.report import language, study_curve
from freezeframe.study import learning_curve, results
from freezeframe.study.learning_curve import Answer
from freezeframe.study.shares import study_of
from freezeframe.verbs.study_plan import folder_of
from freezeframe.verbs.study_report import study_report
from freezeframe.verbs.study_run import study_run


def study_learning_curve(
    recipe: Recipe | dict[str, Any] | str | Path,
    out: str | Path | None = None,
    shares: Sequence[float] | None = None,
    draws: int = 3,
    target: float | None = None,
    times: float = 2.0,
    metric: str = "roc_auc",
    workers: int | None = None,
    lang: str = "en",
) -> Answer:
    """Train on growing shares of the training patients, and forecast what more data would bring.

    The same call again trains nothing twice; with more shares, more draws or another question it adds what is missing.

    Parameters
    ----------
    recipe : Recipe, dict, str or Path
        Of the trainings: a recipe, its fields, or the path of its YAML file.
    out : str or Path, optional
        The study's folder; ``studies/<the recipe's name>-learning-curve`` where left out.
    shares : sequence of float, optional
        Of the training patients, in (0, 1]; three or more. Halves of halves of all, at most five, where left out.
    draws : int
        Trainings for each share: each draws its patients anew, and with all of them has another seed.
    target : float, optional
        Score whose size is asked for, above 0 and at most 1.
    times : float
        How many times the training data to forecast for.
    metric : str
        ``roc_auc``, ``accuracy``, ``balanced_accuracy``, ``f1_macro`` or ``average_precision``, on the test images.
    workers : int, optional
        Processes, as for `freezeframe.study_run`.
    lang : {"en", "es"}
        Language of the report.

    Returns
    -------
    Answer
        What was found; ``learning_curve.json`` in the study's folder holds it with its sentences in all languages, and
        ``report.html`` shows it.

    Raises
    ------
    UserError
        If the recipe, its data or the question won't do, there are too few patients, or the trainings failed.

    Examples
    --------
    >>> import freezeframe
    >>> found = freezeframe.study_learning_curve("lite0.yaml", target=0.97)  # doctest: +SKIP
    >>> found.main.more  # doctest: +SKIP
    Estimate(value=0.962, low=0.951, high=0.970, method='power law, posterior', reason='')
    """
    learning_curve.check_question(times, target)
    language.check(lang)
    name = "learning-curve" if out is None else Path(out).name
    if isinstance(recipe, str | Path):
        name = f"{Path(recipe).stem}-learning-curve" if out is None else name
        recipe = Recipe.read(Path(recipe))
    elif not isinstance(recipe, Recipe):
        recipe = Recipe.parse(recipe)
    study = study_of(recipe, name, shares, draws, metric)
    folder = study_run(study, folder_of(study, out), workers)
    found = learning_curve.answer(results.read(folder), times, target)
    said = {code: study_curve.sentences(found, language.load(code)) for code in language.LANGUAGES}
    files.write_json(
        folder / learning_curve.FILE,
        {**found.to_dict(), "sentences": {code: list(lines) for code, lines in said.items()}},
    )
    study_report(folder, lang=lang)
    return found
