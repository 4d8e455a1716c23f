"""Labels and splits from the names of folders."""

import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Rows:
    """Images of a source before they are hashed.

    Attributes
    ----------
    table : DataFrame
        Text columns ``file`` (POSIX path relative to the root), ``label``, ``patient``, ``site``, ``split``, and free
        ones; '' where unknown.
    notes : tuple of str
        What was found odd, in plain sentences.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def split_word(word: str) -> str:
    """Return train, validation or test for a folder's or cell's word, '' for another.

    Examples
    --------
    >>> split_word("Val"), split_word("Testing"), split_word("cats")
    ('validation', 'test', '')
    """
    return SPLIT_WORDS.get(word.strip().casefold(), "")


def read_class_folders(names: list[str], labels: bool = True) -> Rows:
    """Read labels and splits from images' paths.

    ``class/.../image`` or ``split/class/.../image``; folders below a class are free. A lone folder around all of it is
    passed through. Images of a folder without any sub-folder have no label.

    Parameters
    ----------
    names : list of str
        POSIX paths relative to the data set's folder.
    labels : bool
        False where the labels come from elsewhere: then folders tell the splits, and no image is left out for having
        no class folder.

    Raises
    ------
    UserError
        If split folders and class folders lie side by side.
    """
    paths = [PurePosixPath(name).parts for name in names]
    depth, notes = _descend(paths)
    folders = sorted({parts[depth] for parts in paths if len(parts) > depth + 1})
    splits = [folder for folder in folders if split_word(folder)]
    outside: set[str] = set()
    if splits:
        outside = set(folders) - set(splits)
        if outside and "train" not in map(split_word, splits):
            raise UserError(
                f"Split folders ({listed(splits)}) and other folders ({listed(sorted(outside))}) lie side by side.",
                "either class folders, or train, validation and test with class folders in each.",
                "Move the class folders into a folder 'train', or give a table of labels.",
            )
        depth += 1
    labelled = labels and any(len(parts) > depth + 1 and parts[depth - 1] not in outside for parts in paths)

    rows, left_out, bare = [], [], []
    for name, parts in zip(names, paths, strict=True):
        split = split_word(parts[depth - 1]) if splits and len(parts) > depth else ""
        label = unicodedata.normalize("NFC", parts[depth]) if len(parts) > depth + 1 else ""
        if splits and not split:
            left_out.append(name)
        elif labelled and not label:
            bare.append(name)
        else:
            rows.append((name, label if labelled else "", "", "", split))
    if left_out:
        notes.append(
            f"Left out {counted(len(left_out), 'image')} outside of the split folders: {listed(left_out, 3)}."
        )
    if bare:
        notes.append(
            f"Left out {counted(len(bare), 'image')} outside of the class folders: {listed(bare, 3)}."
        )
    table = pd.DataFrame(rows, columns=["file", "label", "patient", "site", "split"], dtype="str")
    classes = len(set(table["label"]))
    if labelled and classes > 10 and classes > len(table) / 3:
        notes.append(
            f"{counted(classes, 'class folder')} hold only {counted(len(table), 'image')}: "
            "if these folders are patients and not classes, give a table of labels."
        )
    return Rows(table, tuple(notes))


def _descend(paths: list[tuple[str, ...]]) -> tuple[int, list[str]]:
    """Pass through lone folders most of whose images lie in further folders."""
    depth = 0
    while True:
        folders = {parts[depth] for parts in paths if len(parts) > depth + 1}
        deeper = [parts for parts in paths if len(parts) > depth + 2]
        if len(folders) != 1 or split_word(*folders) or 2 * len(deeper) <= len(paths):
            break
        depth += 1
    entered = next(parts[:depth] for parts in paths if len(parts) > depth) if depth else ()
    return depth, [f"The images lie in {'/'.join(entered)}/, which was entered."] if depth else []
