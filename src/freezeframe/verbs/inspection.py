"""What inspecting a data set finds, as plain data."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from freezeframe.data import leakage
from freezeframe.data.manifest import Manifest
from freezeframe.data.shortcuts import Shortcut

SCHEMA_VERSION = 1
FLAGS = ("across_splits", "across_patients", "conflicting_labels")


@dataclass(frozen=True)
class Finding:
    """One thing to know, by a key of `freezeframe.verbs.inspection_words.WORDS` and its values.

    Attributes
    ----------
    level : str
        ``serious`` (results would be wrong), ``caution`` (look at it) or ``note``.
    key : str
        Which sentence.
    values : dict
        What is put into it.
    """

    level: str
    key: str
    values: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found in a data set.

    Attributes
    ----------
    manifest : Manifest
        Its images.
    findings : tuple of Finding
        The most serious first.
    counts : DataFrame
        Columns ``split``, ``label``, ``images``, ``patients`` (0 where none is known).
    sites : DataFrame
        Columns ``site``, ``label``, ``images``; empty where no site is known.
    sizes, modes : DataFrame
        Columns ``width``, ``height``, ``images`` and ``mode``, ``bits``, ``channels``, ``images``;
        the most frequent first.
    unreadable : DataFrame
        Columns ``image``, ``reason``.
    images : DataFrame
        One row a readable image: image, label, patient, site, split, what was measured, ``duplicate_group``.
    duplicates : DataFrame
        One row a pair: ``first``, ``second``, ``kind``, ``similarity``, ``group``, split, patient and
        label of both, and ``across_splits``, ``across_patients`` (both known), ``conflicting_labels``.
    shortcuts : tuple of Shortcut
        See `freezeframe.data.shortcuts.find_shortcuts`.
    """

    manifest: Manifest
    findings: tuple[Finding, ...]
    counts: pd.DataFrame
    sites: pd.DataFrame
    sizes: pd.DataFrame
    modes: pd.DataFrame
    unreadable: pd.DataFrame
    images: pd.DataFrame
    duplicates: pd.DataFrame
    shortcuts: tuple[Shortcut, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all but the tables of images and pairs, as plain data."""
        return {
            "schema_version": SCHEMA_VERSION,
            "root": str(self.manifest.root),
            "classes": list(self.manifest.classes),
            "n_images": len(self.manifest),
            "n_patients": known(self.manifest.table["patient"]),
            "findings": [asdict(finding) for finding in self.findings],
            "notes": list(self.manifest.notes),
            **{
                name: getattr(self, name).to_dict("records")
                for name in ("counts", "sites", "sizes", "modes", "unreadable")
            },
            "duplicates": {
                "pairs": len(self.duplicates),
                "groups": int(self.duplicates["group"].nunique()),
                "kinds": {kind: int((self.duplicates["kind"] == kind).sum()) for kind in leakage.KINDS},
                **{name: int(self.duplicates[name].sum()) for name in FLAGS},
            },
            "shortcuts": [asdict(shortcut) for shortcut in self.shortcuts],
        }


def known(column: pd.Series) -> int:
    """Count the different values that are not empty."""
    return int(column[column != ""].nunique())
