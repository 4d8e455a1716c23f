"""The manifest: a table with one row an image, which every later step reads."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from freezeframe import files
from freezeframe.data.wording import listed
from freezeframe.errors import UserError, did_you_mean

SCHEMA_VERSION = 1
SPLITS = ("train", "validation", "test")
TEXT_COLUMNS = ("image", "label", "patient", "site", "split", "sha256")
# In the free column `synthetic`: an image from a folder of synthetic ones, which is for training alone. Another word
# there ('true' in an invented data set) is the data set's own, whose images are divided like any others.
ADDED = "added"
_METADATA_KEY = b"freezeframe.manifest"


@dataclass(frozen=True)
class ImageReference:
    """Where one image's pixels are.

    Attributes
    ----------
    path : Path
        Absolute path of the file.
    frame : int
        Frame in it, from 0.
    """

    path: Path
    frame: int = 0


@dataclass(frozen=True, eq=False)
class Manifest:
    """The images of a data set, with all that is known of them before they are decoded.

    Attributes
    ----------
    table : DataFrame
        One row an image. Text columns, '' where unknown: ``image`` (unique; POSIX path relative to the root,
        see `image_name` for multi-frame files), ``label`` (one of the classes), ``patient``, ``site``,
        ``split`` (train, validation, test), ``sha256`` (of the file's bytes, hexadecimal). Integer columns,
        where the source filled them: ``frame`` (0 where the column is missing), ``bytes`` (the file's size).
        Any other column is free; ``synthetic`` holds 'added' where an image was added for training alone.
    root : Path
        Absolute folder that the images' paths start from.
    classes : tuple of str
        The labels in the order of the network's outputs.
    notes : tuple of str
        What was found odd and what was remedied, in plain sentences.

    Raises
    ------
    UserError
        On construction, if a column is missing or holds empty cells (NaN), an image occurs twice, or a label
        or split is unknown.
    """

    table: pd.DataFrame
    root: Path
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self.table, self.classes)

    def __len__(self) -> int:
        return len(self.table)

    def references(self) -> list[ImageReference]:
        """Return path and frame of each row's image."""
        return [
            ImageReference(self.root / path, frame)
            for path, frame in zip(self.file_names(), self._frames(), strict=True)
        ]

    def file_names(self) -> list[str]:
        """Return each row's file, relative to the root: the image's name without the frame."""
        return [
            image.removesuffix(f"#{frame}")
            for image, frame in zip(self.table["image"], self._frames(), strict=True)
        ]

    def keys(self) -> list[str]:
        """Return the content identity of each row: the file's SHA-256, with ``#frame`` for a later frame."""
        return [
            f"{sha256}#{frame}" if frame else sha256
            for sha256, frame in zip(self.table["sha256"], self._frames(), strict=True)
        ]

    def subset(self, split: str) -> "Manifest":
        """Return the rows of one split, in the same order; none where the split is empty."""
        if split not in SPLITS:
            raise UserError(f"'{split}' is no split;", action=did_you_mean(split, SPLITS))
        return replace(self, table=self.table[self.table["split"] == split].reset_index(drop=True))

    def labels(self) -> np.ndarray:
        """Return each row's index into the classes, int64 (N,); -1 where it has no label."""
        index = {label: number for number, label in enumerate(self.classes)}
        return np.array([index.get(label, -1) for label in self.table["label"]], dtype=np.int64)

    def patients(self) -> np.ndarray:
        """Return each row's patient, str (N,); an image without one is its own, by the name of its file."""
        pairs = zip(self.table["patient"], self.file_names(), strict=True)
        return np.array([patient or name for patient, name in pairs], dtype=object).astype(str)

    def write(self, path: Path) -> None:
        """Write the manifest as one Parquet file, atomically; root, classes and notes lie in its metadata."""
        facts = {
            "schema_version": SCHEMA_VERSION,
            "root": str(self.root),
            "classes": list(self.classes),
            "notes": list(self.notes),
        }
        table = pa.Table.from_pandas(self.table, preserve_index=False)
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), _METADATA_KEY: json.dumps(facts, ensure_ascii=False).encode()}
        )
        with files.atomic(path) as temporary:
            pyarrow.parquet.write_table(table, temporary, compression="zstd")

    @classmethod
    def read(cls, path: Path, root: Path | None = None) -> "Manifest":
        """Read a manifest that `write` made.

        Parameters
        ----------
        path : Path
            The Parquet file.
        root : Path, optional
            Folder of the images, where they lie elsewhere now.

        Raises
        ------
        UserError
            If there is no such file, or it holds no manifest of a known version.
        """
        table, facts = _read_parquet(Path(path))
        frame = table.to_pandas()
        text = [name for name in TEXT_COLUMNS if name in frame.columns]
        return cls(
            table=frame.astype(dict.fromkeys(text, "str")),
            root=Path(root).absolute() if root is not None else Path(facts["root"]),
            classes=tuple(facts["classes"]),
            notes=tuple(facts["notes"]),
        )

    def added(self) -> np.ndarray:
        """Tell which rows are synthetic images that were added for training alone, bool (N,)."""
        if "synthetic" not in self.table.columns:
            return np.zeros(len(self.table), dtype=bool)
        return (self.table["synthetic"] == ADDED).to_numpy(dtype=bool)

    def _frames(self) -> list[int]:
        return self.table["frame"].tolist() if "frame" in self.table.columns else [0] * len(self.table)


def image_name(path: str, frame: int, frames: int) -> str:
    """Name an image: its file's path, followed by ``#frame`` where the file holds several.

    A file of one frame whose own name ends like that is followed by ``#0``: the name can be taken apart again.

    Examples
    --------
    >>> image_name("a.png", 0, 1), image_name("a.dcm", 2, 30), image_name("slice#7", 0, 1)
    ('a.png', 'a.dcm#2', 'slice#7#0')
    """
    return f"{path}#{frame}" if frames > 1 or re.search(r"#\d+$", path) else path


def _check(table: pd.DataFrame, classes: tuple[str, ...]) -> None:
    missing = [name for name in TEXT_COLUMNS if name not in table.columns]
    if missing:
        raise UserError(
            f"The manifest has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.",
            f"the columns {', '.join(TEXT_COLUMNS)}.",
            "Make the manifest anew from the images.",
        )
    for name in TEXT_COLUMNS:
        number = int(table[name].isna().to_numpy().sum())
        if number:
            raise UserError(
                f"{number:,} rows of the manifest have no {name}.", "text, '' where it is unknown."
            )
    repeated = sorted(set(table.loc[table["image"].duplicated(), "image"]))
    if repeated:
        raise UserError(
            f"The manifest holds {listed(repeated)} more than once.", "each image once.", "Drop the repeats."
        )
    strange = sorted(set(table["split"]) - {*SPLITS, ""})
    if strange:
        raise UserError(f"The manifest has the split {listed(strange)}.", f"one of {', '.join(SPLITS)}.")
    if len(set(classes)) != len(classes):
        raise UserError(f"A class is named twice: {', '.join(classes)}.", "each class once.")
    unknown = sorted(set(table["label"]) - {*classes, ""})
    if unknown:
        raise UserError(
            f"The manifest has the label {listed(unknown)}.", f"one of {', '.join(classes) or 'no classes'}."
        )


def _read_parquet(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"There is no manifest {path}.", "a Parquet file.", "Check the path.")
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path} can't be read as Parquet: {error}", action="Make it anew from the images."
        ) from error
    metadata = (table.schema.metadata or {}).get(_METADATA_KEY)
    facts = json.loads(metadata) if metadata else {}
    if facts.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{path} is no manifest of version {SCHEMA_VERSION} (it has: {facts.get('schema_version', 'none')}).",
            "a manifest.parquet written by this version of freezeframe.",
            "Read a table of your own as a data source (data: {path: table.parquet}), or make it anew.",
        )
    return table, facts
