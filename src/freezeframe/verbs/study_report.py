"""Write the report of a study."""

import contextlib
from pathlib import Path

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.report import language, study_curve, study_page, study_search
from freezeframe.report.study_sections import Section
from freezeframe.study import findings, learning_curve, results, search


def study_report(study: str | Path, out: str | Path | None = None, lang: str = "en") -> Path:
    """Write a study, finished or not, as one self-contained HTML page, with figures and tables as files beside it.

    Parameters
    ----------
    study : str or Path
        Folder that `freezeframe.study_run` made.
    out : str or Path, optional
        The page; ``report.html`` in the study's folder where left out. In ``<its stem>_files/`` beside it lie the
        figures (SVG, PNG), the tables (CSV, LaTeX), and ``results.csv`` and ``results.parquet`` with a row a
        training.
    lang : {"en", "es"}
        Language of everything that a reader sees.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UserError
        If the folder is no study, the language is unknown, or `out` can't be written.
    """
    words = language.load(lang)
    folder = Path(study)
    page = Path(out) if out is not None else folder / "report.html"
    if page.is_dir():
        raise UserError(
            f"{page} is a folder.", "a file name for the page.", f"Use --out {page / 'report.html'}."
        )
    read = results.read(folder)
    found = findings.find(read)
    study_page.make(found, words, *_own(found, words)).write(page)
    beside = page.parent / f"{page.stem}_files"
    table = read.table()
    files.write_text(beside / "results.csv", table.to_csv(index=False))
    with files.atomic(beside / "results.parquet") as temporary:
        table.to_parquet(temporary, index=False)
    return page


def _own(found: findings.Findings, words: language.Language) -> tuple[list[Section], tuple[str, ...]]:
    """Return the section that a learning curve or a search has besides a grid's, and what its page says first."""
    curve = _learning_curve(found.results)
    if curve is not None:
        return [study_curve.section(curve, words)], study_curve.forecast_sentences(curve, words)
    folder = found.results.folder
    trials = search.history(folder)
    if trials.empty:
        return [], ()
    made = study_search.section(found, trials, search.importances(folder), words)
    return [made], study_search.answer(found, trials, words)


def _learning_curve(read: results.Results) -> learning_curve.Answer | None:
    """Answer again what `freezeframe study learning-curve` was asked, where this is its study."""
    path = read.folder / learning_curve.FILE
    if not path.is_file():
        return None
    asked = files.read_json(path)
    # One that has grown since, and was interrupted, may have too few sizes for an answer.
    with contextlib.suppress(UserError):
        return learning_curve.answer(read, asked["times"], asked["target"])
    return None
