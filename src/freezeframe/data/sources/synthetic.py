"""Folders of synthetic images, which are added to the training images of a data set and to nothing else."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from freezeframe.data.manifest import ADDED, Manifest
from freezeframe.data.sources.dicom import Header, header_notes, read_headers
from freezeframe.data.sources.identity import identify
from freezeframe.data.sources.scan import scan
from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError


def outside(names: Iterable[str], root: Path, folders: Iterable[Path]) -> list[str]:
    """Return the files that lie in none of the folders, wherever links lead: the real images of a data set.

    Parameters
    ----------
    names : iterable of str
        Files, relative to the root.
    root : Path
        The data set's folder.
    folders : iterable of Path
        Folders of synthetic images, as the recipe names them.

    Raises
    ------
    UserError
        If a folder is missing, or the data set lies in it.
    """
    real = [os.path.realpath(_find(folder, root)) for folder in folders]
    own = os.path.realpath(root)
    for given, folder in zip(folders, real, strict=True):
        if PurePosixPath(own).is_relative_to(folder):
            raise UserError(
                f"The folder of synthetic images {given} holds the data set itself ({root}).",
                "a folder of its own for the synthetic images.",
                "Move them into one, and name it in 'synthetic'.",
            )
    if not real:
        return list(names)
    return [
        name
        for name in names
        if not any(PurePosixPath(os.path.realpath(root / name)).is_relative_to(folder) for folder in real)
    ]


def add_synthetic(manifest: Manifest, folders: Iterable[Path]) -> Manifest:
    """Add the images of folders to a data set, for training alone.

    A folder holds a sub-folder for each class, or is named like one class. The images come after the data set's own,
    without a patient, in the split ``train`` where the data set has splits, and with 'added' in the column
    ``synthetic``. An image outside of the data set's folder is named by its absolute path.

    Parameters
    ----------
    manifest : Manifest
        Of the data set's own images.
    folders : iterable of Path
        As the recipe names them; relative ones start where you are, or in the data set's folder.

    Returns
    -------
    Manifest
        With the same classes; a note says how many images were added.

    Raises
    ------
    UserError
        If a folder is missing or holds no image, or an image lies in no folder that is named like a class.
    """
    labels: dict[str, str] = {}
    headers: dict[str, Header] = {}
    notes = list(manifest.notes)
    for given in dict.fromkeys(folders):
        found, said, read = _read(given, manifest)
        labels |= found
        headers |= read
        notes += said
    own = manifest.table
    rows = pd.DataFrame({"file": list(labels), "label": list(labels.values())}, dtype="str")
    rows["split"] = "train" if (own["split"] != "").to_numpy().any() else ""
    columns = [name for name in own.columns if name not in ("image", "sha256", "bytes", "frame", "synthetic")]
    rows = rows.reindex(columns=["file", *columns], fill_value="").astype("str")
    rows["synthetic"] = pd.Series([ADDED] * len(rows), dtype="str")
    added, said = identify(rows, headers, manifest.root)
    real = (
        own if "synthetic" in own.columns else own.assign(synthetic=pd.Series([""] * len(own), dtype="str"))
    )
    counts = Counter(added["label"])
    shown = ", ".join(f"{label} ({counts[label]:,})" for label in manifest.classes if counts[label])
    notes += said
    notes.append(f"Synthetic images, added to the training images only: {len(added):,}, {shown}.")
    table = pd.concat([real, added[real.columns]], ignore_index=True)
    return replace(manifest, table=table, notes=tuple(notes))


def _find(given: Path, root: Path) -> Path:
    """Take a folder's path as it stands, else as one in the data set's folder."""
    folder = given.expanduser()
    folder = folder.absolute() if folder.exists() else root / folder
    if not folder.is_dir():
        raise UserError(
            f"There is no folder of synthetic images {given}, neither here nor in {root}.",
            "a folder with a sub-folder for each class, or one named like a class.",
            "Check 'synthetic'.",
        )
    return folder


def _read(given: Path, manifest: Manifest) -> tuple[dict[str, str], list[str], dict[str, Header]]:
    """Return the labels of a folder's images by name, what was odd, and the DICOM headers by name."""
    folder = _find(given, manifest.root)
    found = scan(folder)
    read, others = read_headers(folder, sorted(found.dicom))
    without_image = set(others)
    names = [name for name in found.files if name not in without_image]
    label_of = {name: _label(name, folder, manifest.classes) for name in names}
    missing = [name for name, label in label_of.items() if not label]
    if missing or not names:
        what = f"{counted(len(missing), 'image')} outside of a class's folder: {listed(missing)}"
        raise UserError(
            f"The folder of synthetic images {given} holds {what if names else 'no images'}.",
            f"images in folders named {listed(manifest.classes, 30)}.",
            "Sort them into such folders: a synthetic image needs the label of a real class.",
        )
    # A path that leads out of the data set's folder by '..' would mean another place behind a link.
    inside = folder.is_relative_to(manifest.root) and ".." not in folder.parts
    start = folder.relative_to(manifest.root) if inside else folder.resolve()
    notes = [*found.notes, *header_notes(sorted(found.dicom), read, others)]
    return (
        {(start / name).as_posix(): label for name, label in label_of.items()},
        notes,
        {(start / name).as_posix(): header for name, header in read.items()},
    )


def _label(name: str, folder: Path, classes: tuple[str, ...]) -> str:
    """Return the first folder on the way to an image that is named like a class, the given one last; '' for none."""
    folders = [*PurePosixPath(name).parts[:-1], folder.name]
    composed = (unicodedata.normalize("NFC", part) for part in folders)
    return next((part for part in composed if part in classes), "")
