"""Say what a study will cost."""

from pathlib import Path
from typing import Any

from freezeframe.study.folder import StudyFolder
from freezeframe.study.plan import Plan, make_plan
from freezeframe.study.spec import Study


def study_plan(
    study: Study | dict[str, Any] | str | Path, out: str | Path | None = None, workers: int | None = None
) -> Plan:
    """Estimate what is left of a study by measuring on this machine for some seconds; nothing is trained.

    Parameters
    ----------
    study : Study, dict, str or Path
        The study, its fields, or the path of its YAML file.
    out : str or Path, optional
        The study's folder; ``studies/<its name>`` where left out.
    workers : int, optional
        Processes; one a core, or one beside a GPU, where left out.

    Raises
    ------
    UserError
        If the study or its data won't do.

    Examples
    --------
    >>> import freezeframe
    >>> plan = freezeframe.study_plan("study.yaml")  # doctest: +SKIP
    >>> plan.seconds, plan.naive_seconds  # doctest: +SKIP
    (212.0, 4100.0)
    """
    known = as_study(study)
    return make_plan(known, StudyFolder(folder_of(known, out)), workers)


def as_study(study: Study | dict[str, Any] | str | Path) -> Study:
    """Take a study as it is given."""
    if isinstance(study, Study):
        return study
    return Study.parse(study) if isinstance(study, dict) else Study.read(Path(study))


def folder_of(study: Study, out: str | Path | None) -> Path:
    """Return a study's folder: ``studies/<its name>`` where none is said."""
    return Path("studies") / study.name if out is None else Path(out)
