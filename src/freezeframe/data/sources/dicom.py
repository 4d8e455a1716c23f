"""What a data set needs of DICOM headers: identity, patient, site, frames."""

import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom

from freezeframe.data.wording import counted, listed
from freezeframe.progress import progress

IDENTIFIERS = ("SOPInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID")
_ATTRIBUTES = (*IDENTIFIERS, "SpecificCharacterSet", "InstitutionName", "NumberOfFrames", "Rows", "Modality")
_THREADS = 4


@dataclass(frozen=True)
class Header:
    """Attributes of one DICOM file, '' where absent or empty.

    Attributes
    ----------
    identifiers : dict of str to str
        SOPInstanceUID, StudyInstanceUID, AccessionNumber and PatientID.
    institution : str
        InstitutionName.
    frames : int
        NumberOfFrames, 1 where absent or unreadable.
    modality : str
        Modality.
    has_image : bool
        False for reports, plans and other objects without Rows (PS3.3, section C.7.6.3).
    """

    identifiers: dict[str, str]
    institution: str
    frames: int
    modality: str
    has_image: bool


def read_header(path: Path) -> Header | None:
    """Read a file's header without its pixels; None where it can't be parsed as DICOM."""
    try:
        with path.open("rb") as handle:  # given a path, pydicom would wait for ever on a pipe
            dataset = pydicom.dcmread(
                handle, stop_before_pixels=True, force=True, specific_tags=list(_ATTRIBUTES)
            )
        values = {name: _text(dataset, name) for name in _ATTRIBUTES}
    except Exception:  # pydicom raises nearly anything on a broken file, and none of it may end the job
        return None
    if not any(values.values()):
        return None
    frames = values["NumberOfFrames"]
    return Header(
        identifiers={name: values[name] for name in IDENTIFIERS},
        institution=values["InstitutionName"],
        frames=max(1, int(frames)) if frames.isascii() and frames.isdigit() else 1,
        modality=values["Modality"],
        has_image=bool(values["Rows"]),
    )


def _text(dataset: pydicom.Dataset, name: str) -> str:
    try:
        value: Any = dataset.get(name)
    except Exception:  # an attribute with a broken value is as good as absent; the others may be whole
        return ""
    return "" if value is None else str(value).replace("\0", "").strip()


def read_headers(root: Path, names: list[str]) -> tuple[dict[str, Header], list[str]]:
    """Read the headers of DICOM files, behind a progress bar.

    Parameters
    ----------
    root : Path
        Folder of the data set.
    names : list of str
        Files, relative to it.

    Returns
    -------
    headers : dict of str to Header
        Of the files that hold an image; a file that can't be parsed has none here and is left to the decoder.
    others : list of str
        DICOM files without an image.
    """
    headers, others = {}, []
    with (
        _quiet(),
        ThreadPoolExecutor(_THREADS) as pool,
        progress("Reading DICOM headers", len(names), "files") as advance,
    ):
        paths = [root / name for name in names]
        for name, header in zip(names, pool.map(read_header, paths), strict=True):
            advance(1)
            if header is None:
                continue
            if header.has_image:
                headers[name] = header
            else:
                others.append(name)
    return headers, others


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's remarks on odd files off the screen: what matters of them becomes a note."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def header_notes(names: list[str], headers: dict[str, Header], others: list[str]) -> list[str]:
    """Say what is odd about the headers of the named DICOM files."""
    notes = []
    if others:
        left_out = f"Left out {counted(len(others), 'DICOM file')} without an image"
        notes.append(f"{left_out} (reports, plans, waveforms): {listed(others)}.")
    unknown = [name for name in names if name not in headers and name not in others]
    if unknown:
        notes.append(f"{counted(len(unknown), 'DICOM file')} without a readable header: {listed(unknown)}.")
    frames = {name: header.frames for name, header in headers.items() if header.frames > 1}
    if frames:
        total = sum(frames.values())
        notes.append(
            f"{counted(len(frames), 'multi-frame file')} hold {counted(total, 'frame')}, one row each."
        )
    patients = {header.identifiers["PatientID"] for header in headers.values()}
    if len(headers) > 1 and len(patients) == 1 and patients != {""}:
        notes.append(
            f"All {counted(len(headers), 'DICOM file')} carry the PatientID {listed(patients)}: if it stands for "
            "'anonymised' only, give patient_column, or say 'patient_pattern: none'."
        )
    return notes
