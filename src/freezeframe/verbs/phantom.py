"""Make a synthetic hospital."""

from pathlib import Path

from freezeframe.data.phantom import make_hospital


def phantom(out: str | Path, patients: int = 400, seed: int = 0) -> Path:
    """Make synthetic chest radiographs of two sites as DICOM files, with a table of labels.

    The same call again goes on where a killed one stopped.

    Parameters
    ----------
    out : str or Path
        Folder to fill; new, empty, or a hospital of the same size and seed.
    patients : int
        At least 2.
    seed : int
        Another seed invents other people.

    Returns
    -------
    Path
        The table of labels; see `freezeframe.data.phantom.make_hospital`.

    Raises
    ------
    UserError
        If the folder holds something else or can't be written.
    """
    return make_hospital(Path(out).expanduser(), patients, seed)
