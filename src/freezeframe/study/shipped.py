"""The studies that come with freezeframe: published ones, as files in `freezeframe/recipes/`."""

from pathlib import Path

from freezeframe.errors import UserError, did_you_mean

FOLDER = Path(__file__).parent.parent / "recipes"


def paths() -> dict[str, Path]:
    """Return the file of each shipped study, by its name in order."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"), key=lambda path: path.stem)}


def find(study: Path) -> Path:
    """Return the file of a study that is given by its path, or by the name of a shipped one.

    A file that is there comes first. Where there is none, ``skin-grid``, ``skin-grid.yaml`` and
    ``recipes/skin-grid.yaml`` all mean the shipped one, so that a line which is written for the project's checkout
    works where only the package is installed.

    Parameters
    ----------
    study : Path
        As it was given.

    Returns
    -------
    Path
        As it was given where it is a path elsewhere, whether there is such a file or not.

    Raises
    ------
    UserError
        If it can only be the name of a shipped study, and there is none of that name.

    Examples
    --------
    >>> find(Path("skin-grid")).name, find(Path("elsewhere/skin-grid.yaml")) == Path("elsewhere/skin-grid.yaml")
    ('skin-grid.yaml', True)
    """
    study = Path(study)
    known = paths()
    if study.exists() or study.parent not in (Path(), Path("recipes")) or study.suffix not in ("", ".yaml"):
        return study
    if study.stem not in known and not study.suffix:
        raise UserError(
            f"There is no study {study}, neither a file nor a shipped one; {did_you_mean(study.name, known)}",
            action="`freezeframe study recipes` lists those that come with freezeframe.",
        )
    return known.get(study.stem, study)


def first_line(path: Path) -> str:
    """Return the first line of a study's file without its sign of a comment: what it is about."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
