"""Export an ensemble or a run to a bundle."""

from collections.abc import Sequence
from pathlib import Path

from freezeframe.errors import UserError

LONGEST_NAME = 64
LONGEST_LICENCE = 1 << 20  # bytes


def export(
    model: str | Path,
    out: str | Path,
    name: str | None = None,
    codes: str | Path | None = None,
    licence: str | Path = "",
    intended: str | Path | None = None,
    positive: str | None = None,
    sensitivity: Sequence[float] = (),
    specificity: Sequence[float] = (),
    evaluation: str | Path | None = None,
    secret_key: str | Path | None = None,
    password: str = "",
    screening: bool = True,
) -> Path:
    """Export an ensemble or a run to a bundle that answers without torch, and prove that it answers the same.

    Parameters
    ----------
    model : str or Path
        Folder of an ensemble or of a run.
    out : str or Path
        The bundle: a folder, or one file that ends in ``.ffb``. An older bundle there is replaced.
    name : str, optional
        At most 64 characters; that of `out` where left out.
    codes : str or Path, optional
        CSV with the columns ``label,scheme,value,meaning``; freezeframe's own table where left out.
    licence : str or Path
        Its text, or a file that holds it.
    intended : str or Path, optional
        YAML with ``use`` (a sentence), ``modalities``, ``body_parts``, ``views`` and ``ages``. What is not in it is
        read from the training images' DICOM headers.
    positive : str, optional
        Class that the operating points are about; the ensemble's, or the last of two, where left out.
    sensitivity, specificity : sequence of float
        Operating points to add, ``sensitivity-0.95`` and the like, chosen on validation images.
    evaluation : str or Path, optional
        Folder that `evaluate` wrote for this model, for the card; the test images where left out.
    secret_key : str or Path, optional
        Minisign key to sign with.
    password : str
        Of the key.
    screening : bool
        Describe the training images, so that images unlike them are flagged.

    Returns
    -------
    Path
        The bundle.

    Raises
    ------
    UserError
        If something that was given is wrong.
    FreezeframeError
        If the bundle does not answer as the training model does; nothing is left then.
    """
    from freezeframe.bundle import export as exporting
    from freezeframe.bundle.options import Options, Purpose, read_purpose

    name = (Path(out).absolute().stem if name is None else name).strip()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise UserError(
            f"The bundle's name has {len(name)} characters: {name[:80]!r}.",
            f"1 to {LONGEST_NAME}.",
            "Give it another with --name.",
        )
    options = Options(
        name=name,
        codes=None if codes is None else Path(codes),
        licence=_text(licence),
        purpose=Purpose() if intended is None else read_purpose(Path(intended)),
        positive=positive,
        sensitivities=tuple(sensitivity),
        specificities=tuple(specificity),
        evaluation=None if evaluation is None else Path(evaluation),
        secret_key=None if secret_key is None else Path(secret_key),
        password=password,
        screening=screening,
    )
    return exporting.export(Path(model), Path(out).absolute(), options)


def _text(licence: str | Path) -> str:
    try:
        is_file = Path(licence).is_file()
    except OSError:  # a text longer than a path may be
        is_file = False
    if not is_file:
        if isinstance(licence, Path):
            raise UserError(f"There is no file {licence}.", "a licence.", "Check the path.")
        return licence
    try:
        if Path(licence).stat().st_size > LONGEST_LICENCE:
            raise UserError(f"{licence} has over 1 MB.", "the text of a licence.", "Check the path.")
        return Path(licence).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{licence} can't be read: {error}.", "a text in UTF-8.", "Check the path."
        ) from error
