"""The folder that de-identified images are pulled into: a training set, and a list of what was left out of it."""

import csv
import hashlib
import hmac
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

import freezeframe
from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.pacs.deidentify import NotCleanError, deidentify
from freezeframe.pacs.deidentify_regions import BurnedInError, Stations
from freezeframe.pacs.deidentify_rules import EDITION, Dates
from freezeframe.pacs.deidentify_salt import Pseudonyms

TABLE, LEFT_OUT, ABOUT = "labels.csv", "left-out.csv", "pull.json"
COLUMNS = (
    "image", "label", "patient", "site", "SOPInstanceUID", "StudyInstanceUID", "study_date", "modality", "feedback",
)  # fmt: skip


@dataclass(frozen=True)
class Pulled:
    """What a pull has made.

    Attributes
    ----------
    table : Path
        ``labels.csv``, which a recipe names as its data.
    images, patients : int
        In it.
    labels : mapping of str to int
        How many images have which label.
    left_out : mapping of str to int
        How many images were left out, and why.
    """

    table: Path
    images: int
    patients: int
    labels: Mapping[str, int]
    left_out: Mapping[str, int]


class Export:
    """Takes images one by one; what is there from a pull that was ended stays.

    Parameters
    ----------
    folder : Path
        New, or of a pull with the same secret and the same choice of dates.
    pseudonyms : Pseudonyms
        Of this place.
    stations : Stations
        Where text is burned in.
    dates : str
        ``shift`` or ``remove``.
    origin : str
        ``node`` or ``pacs``.
    """

    def __init__(
        self, folder: Path, pseudonyms: Pseudonyms, stations: Stations, dates: Dates, origin: str
    ) -> None:
        self.folder = folder
        self._pseudonyms, self._stations = pseudonyms, stations
        self._dates: Dates = dates
        self._rows: dict[str, dict[str, str]] = {}
        self._left_out: dict[str, str] = {}
        mark = hmac.digest(pseudonyms.salt, b"which secret", hashlib.sha256).hex()[:16]
        self._about = {
            "schema_version": 1,
            "from": origin,
            "software": freezeframe.__version__,
            "profile": f"DICOM PS3.15 {EDITION}, table E.1-1",
            "dates": dates,
            "secret": mark,
        }
        self._begin()

    def has(self, sop_instance_uid: str) -> bool:
        """Tell whether an image, by its original UID, is in the folder already."""
        return self._path(sop_instance_uid).exists()

    def add(
        self, sop_instance_uid: str, original: Dataset | Path | None, label: str, feedback: str = ""
    ) -> bool:
        """Take an image in, or note why not.

        Parameters
        ----------
        sop_instance_uid : str
            The original one.
        original : Dataset or Path, optional
            May be left out where `has` says that it is there.
        label : str
            '' where nobody has given one.
        feedback : str
            Where the label comes from.

        Returns
        -------
        bool
            Whether it is in the folder.
        """
        path = self._path(sop_instance_uid)
        if not path.exists():
            try:
                # A path is read here, so that one broken file is left out, and does not end the pull.
                dataset = pydicom.dcmread(original) if isinstance(original, Path) else original
                if dataset is None:
                    raise NotCleanError("it was not sent")
                result = deidentify(dataset, self._pseudonyms, self._stations, self._dates)
            except (NotCleanError, BurnedInError) as error:
                self.leave_out(sop_instance_uid, str(error))
                return False
            except (
                Exception
            ) as error:  # pydicom raises nearly anything on a broken file; its text may hold values
                self.leave_out(sop_instance_uid, f"it can't be read ({type(error).__name__})")
                return False
            files.write_bytes(path, result.content)
        self._rows[path.name] = self._row(path, label, feedback)
        return True

    def leave_out(self, sop_instance_uid: str, reason: str) -> None:
        """Note why an image is not in the folder."""
        self._left_out[self._pseudonyms.uid(sop_instance_uid)] = reason

    def finish(self) -> Pulled:
        """Write the tables."""
        rows = [self._rows[name] for name in sorted(self._rows)]
        files.write_text(self.folder / TABLE, _table(COLUMNS, rows))
        left_out = [
            {"SOPInstanceUID": uid, "reason": reason} for uid, reason in sorted(self._left_out.items())
        ]
        files.write_text(self.folder / LEFT_OUT, _table(("SOPInstanceUID", "reason"), left_out))
        return Pulled(
            self.folder / TABLE,
            len(rows),
            len({row["patient"] for row in rows}),
            Counter(row["label"] for row in rows),
            Counter(self._left_out.values()),
        )

    def _begin(self) -> None:
        about = self.folder / ABOUT
        if about.exists():
            if files.read_json(about) != self._about:
                raise UserError(
                    f"{self.folder} holds images of another pull (other source, secret, dates or release).",
                    "the same, or a new folder.",
                    "Choose another folder with --out.",
                )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(
                f"{self.folder} is not empty.",
                "a new folder, or that of a pull.",
                "Choose another with --out.",
            )
        else:
            files.write_json(about, self._about)

    def _path(self, sop_instance_uid: str) -> Path:
        return self.folder / "images" / f"{self._pseudonyms.uid(sop_instance_uid)}.dcm"

    def _row(self, path: Path, label: str, feedback: str) -> dict[str, str]:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        values = (
            f"images/{path.name}", label, header.PatientID, header.get("InstitutionName", ""), header.SOPInstanceUID,
            header.StudyInstanceUID, header.get("StudyDate", ""), header.get("Modality", ""), feedback,
        )  # fmt: skip
        return {column: str(value or "") for column, value in zip(COLUMNS, values, strict=True)}


def _table(columns: tuple[str, ...], rows: list[dict[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
