"""Who is on an image, by the name of its file."""

import re
from pathlib import PurePosixPath

from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError

SHARE_TO_DETECT = 0.9

# Kermany et al., Mendeley Data, doi:10.17632/rscbjbr9sj: first the names of the copy that everybody uses (Kaggle), then
# those of the record itself, disease-patient-number. Whether personN of "bacteria" and personN of "virus" are one child
# is not documented: the strict grouping takes them for one.
_KERMANY = re.compile(
    r"(?P<person>person\d+)_(?:bacteria|virus)_\d+(?:_\d+)?"
    r"|(?P<normal>(?:NORMAL2-)?IM-\d+)-\d+(?:-\d+)*"
    r"|(?:BACTERIA|VIRUS|NORMAL|CNV|DME|DRUSEN)-(?P<number>\d+)-\d+",
    re.ASCII,
)


def kermany_patient(name: str) -> str:
    """Return the patient in a file name of the Kermany data set, '' where the name is another.

    Examples
    --------
    >>> kermany_patient("train/PNEUMONIA/person7_virus_12.jpeg"), kermany_patient("NORMAL2-IM-0115-0001-0002.jpeg")
    ('person7', 'NORMAL2-IM-0115')
    >>> kermany_patient("cat.png")
    ''
    """
    match = _KERMANY.fullmatch(PurePosixPath(name).stem)
    return match[match.lastgroup] if match and match.lastgroup else ""


def detect_patients(names: list[str]) -> tuple[list[str], list[str]]:
    """Find patients by a built-in naming, where at least nine of ten names follow it.

    Returns
    -------
    patients : list of str
        One a name, '' where unknown; all '' where no naming is recognised.
    notes : list of str
        Which naming was recognised.
    """
    patients = [kermany_patient(name) for name in names]
    known = sum(map(bool, patients))
    if not names or known < SHARE_TO_DETECT * len(names):
        return [""] * len(names), []
    rest = len(names) - known
    exception = f" {counted(rest, 'other name')} tell{'s' if rest == 1 else ''} no patient." if rest else ""
    note = (
        f"The file names are those of the Kermany data set: {counted(len({*patients} - {''}), 'patient')}, where "
        f"personN is one patient whatever the subtype (patient_pattern: none turns this off).{exception}"
    )
    return patients, [note]


def match_patients(names: list[str], pattern: str) -> tuple[list[str], list[str]]:
    """Find patients by a regular expression.

    Parameters
    ----------
    names : list of str
        Images' paths, relative to the data set's folder.
    pattern : str
        Searched in each path; its first group, or all of the match where it has no group, is the patient.
        ``kermany`` is the built-in naming, ``none`` no patients.

    Returns
    -------
    patients : list of str
        One a name, '' where the pattern does not match.
    notes : list of str
        How many patients there are, and the names that do not match.

    Raises
    ------
    UserError
        If the pattern is no regular expression, or matches no name.
    """
    if pattern == "none":
        return [""] * len(names), ["Patients are not used (patient_pattern: none)."]
    if pattern == "kermany":
        patients = [kermany_patient(name) for name in names]
    else:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise UserError(
                f"patient_pattern {pattern!r} is no regular expression: {error}.",
                r"for example '(P\d+)_' for names such as P012_left.png.",
                "Mend the pattern.",
            ) from error
        group = 1 if expression.groups else 0
        matches = [expression.search(name) for name in names]
        patients = [(match[group] or "") if match else "" for match in matches]
    missing = [name for name, patient in zip(names, patients, strict=True) if not patient]
    if names and len(missing) == len(names):
        raise UserError(
            f"patient_pattern {pattern!r} finds no patient in {counted(len(names), 'name')}: {listed(names, 3)}.",
            "a pattern whose first group is the patient.",
            "Mend the pattern, or say 'patient_pattern: none'.",
        )
    notes = [f"patient_pattern finds {counted(len({*patients} - {''}), 'patient')}."]
    if missing:
        notes.append(
            f"patient_pattern finds no patient in {counted(len(missing), 'name')}: {listed(missing)}; "
            "each of these files counts as a patient of its own."
        )
    return patients, notes
