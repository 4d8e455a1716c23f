"""What result objects take over from the images that they are about, however odd those are."""

import copy
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from freezeframe.imaging.header import integer, number, opened
from freezeframe.imaging.image import UnreadableImage
from freezeframe.pacs import uids

KNOWN_CLASS = ComputedRadiographyImageStorage
"""highdicom refuses to refer to images of classes that it does not know, and takes some for enhanced ones."""
_SINGLE_FRAME = {
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MRImageStorage,
    SecondaryCaptureImageStorage,
}
"""Classes of which no frame may be referred to by its number, even where one holds several."""
_GREY = ("MONOCHROME1", "MONOCHROME2")
_UNPAIRED = {
    "ABDOMEN", "ABDOMENPELVIS", "AORTA", "BLADDER", "BRAIN", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "COCCYX",
    "COLON", "CSPINE", "CTSPINE", "ESOPHAGUS", "FACE", "HEAD", "HEADNECK", "HEART", "JAW", "LARYNX", "LIVER",
    "LSPINE", "LSSPINE", "MAXILLA", "MEDIASTINUM", "NECK", "NECKCHEST", "NECKCHESTABDOMEN", "NECKCHESTABDPELV",
    "NOSE", "PANCREAS", "PELVIS", "PHARYNX", "PROSTATE", "RECTUM", "SKULL", "SPINE", "SPLEEN", "SSPINE", "STERNUM",
    "STOMACH", "THYROID", "TLSPINE", "TONGUE", "TRACHEA", "TSPINE", "UTERUS", "WHOLEBODY",
}  # fmt: skip
"""Body parts of which a person has one (PS3.16, annex L)."""
_LUTS = ("ModalityLUTSequence", "VOILUTSequence")


@dataclass(frozen=True, eq=False)
class SourceImage:
    """An image's header, with only what is valid in it.

    Attributes
    ----------
    path : Path
        The file.
    identity : Dataset
        Of patient and study, as every object of the study has to have them: texts are valid for their value
        representation (PS3.5, section 6.2) or empty.
    reference : Dataset
        What is said about the image where another object refers to it: UIDs, and what its pixels are. Names no patient.
    laterality : str or None
        'L', 'R', or '' where it is not known; None for a body part that has no sides.
    body_part : str
        BodyPartExamined, or ''.
    timezone : str
        TimezoneOffsetFromUTC, such as '+0100', or ''.
    """

    path: Path
    identity: Dataset
    reference: Dataset
    laterality: str | None
    body_part: str
    timezone: str

    @property
    def sop_instance_uid(self) -> str:
        """Of the image."""
        return str(self.reference.SOPInstanceUID)

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and columns in pixels; None where the header does not say them."""
        rows, columns = self.reference.get("Rows", 0), self.reference.get("Columns", 0)
        return (int(rows), int(columns)) if rows and columns else None

    @property
    def frames(self) -> int:
        """Number of frames that the header declares and the class of the object allows, at least 1."""
        if self.reference.SOPClassUID in _SINGLE_FRAME:
            return 1
        return int(self.reference.get("NumberOfFrames", 1))

    @property
    def is_grey(self) -> bool:
        """Whether a greyscale presentation state can be about it."""
        return (
            self.reference.get("PhotometricInterpretation") in _GREY and self.reference.SamplesPerPixel == 1
        )


def read_source(path: Path, study_uid: str, sop_instance_uid: str) -> SourceImage | None:
    """Read an image's header.

    Parameters
    ----------
    path : Path
        DICOM file.
    study_uid, sop_instance_uid : str
        That the node keeps it under.

    Returns
    -------
    SourceImage or None
        None where not even the header can be read, or it does not say of which class the object is.
    """
    try:
        with opened(path) as file:
            header = file.header
            class_uid = _uid(header, "SOPClassUID") or _uid(
                getattr(header, "file_meta", Dataset()), "MediaStorageSOPClassUID"
            )
            if not class_uid:
                return None
            body_part = _one_of(header, ("BodyPartExamined",), r"[A-Z0-9_ ]{1,16}")
            side = _one_of(header, ("Laterality", "ImageLaterality"), r"[LR]")
            return SourceImage(
                path,
                _identity(header, study_uid),
                _reference(header, study_uid, sop_instance_uid, class_uid),
                None if body_part in _UNPAIRED else side,
                body_part,
                _one_of(header, ("TimezoneOffsetFromUTC",), r"[+-](0\d|1[0-4])[0-5]\d"),
            )
    except UnreadableImage:
        return None


def printable(text: str) -> str:
    """Return a text without what no short text of DICOM may hold: control characters and the backslash."""
    # U+3000, which divides Japanese names, is a space of category Zs, and not printable by Python's rule.
    kept = (
        sign for sign in text if sign != "\\" and (sign.isprintable() or unicodedata.category(sign) == "Zs")
    )
    return "".join(kept).strip()


def refer(data: Dataset, source: SourceImage) -> None:
    """Put an image's own class where something was made to refer to one of `KNOWN_CLASS`."""
    for element in data.iterall():
        if element.keyword == "ReferencedSOPClassUID":
            element.value = source.reference.SOPClassUID


def person_name(text: str) -> str:
    r"""Return a name that the value representation PN allows (PS3.5, section 6.2).

    Examples
    --------
    >>> person_name("PHANTOM^0001^^^^too^many\\")
    'PHANTOM^0001^^^'
    """
    groups = [
        "^".join(part.strip() for part in printable(group).split("^")[:5])[:64]
        for group in text.split("=")[:3]
    ]
    return "=".join(groups).rstrip("=")


def day(text: str) -> str:
    """Return a DA value, also of the old form 2026.01.31, or '' where it is no day.

    Examples
    --------
    >>> day("2026.01.31"), day("20260231")
    ('20260131', '')
    """
    plain = text.replace(".", "").replace("-", "")
    if not re.fullmatch(r"\d{8}", plain, flags=re.ASCII):
        return ""
    try:
        date(int(plain[:4]), int(plain[4:6]), int(plain[6:]))
    except ValueError:
        return ""
    return plain


def time_of_day(text: str) -> str:
    """Return a TM value, also of the old form 08:15:00, or '' where it is no time.

    Examples
    --------
    >>> time_of_day("08:15:00.5"), time_of_day("2515")
    ('081500.5', '')
    """
    plain = text.replace(":", "")
    pattern = r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"
    return plain if re.fullmatch(pattern, plain, flags=re.ASCII) else ""


def _limited(most: int) -> Callable[[str], str]:
    return lambda text: printable(text)[:most].strip()


def _matching(pattern: str) -> Callable[[str], str]:
    return lambda text: text.upper() if re.fullmatch(pattern, text.upper(), flags=re.ASCII) else ""


# Type 2 attributes of patient and study (PS3.3, sections C.7.1.1 and C.7.2.1), which every object has.
_ALWAYS: dict[str, Callable[[str], str]] = {
    "PatientName": person_name,
    "PatientID": _limited(64),
    "PatientBirthDate": day,
    "PatientSex": _matching(r"[MFO]"),
    "StudyDate": day,
    "StudyTime": time_of_day,
    "ReferringPhysicianName": person_name,
    "StudyID": _limited(16),
    "AccessionNumber": _limited(16),
}
_WHERE_KNOWN: dict[str, Callable[[str], str]] = {
    "IssuerOfPatientID": _limited(64),
    "StudyDescription": _limited(64),
    "PatientAge": _matching(r"\d{3}[DWMY]"),
}


def _identity(header: Dataset, study_uid: str) -> Dataset:
    identity = Dataset()
    identity.StudyInstanceUID = study_uid
    for keyword, clean in _ALWAYS.items():
        setattr(identity, keyword, clean(_text(header, keyword)))
    for keyword, clean in _WHERE_KNOWN.items():
        if value := clean(_text(header, keyword)):
            setattr(identity, keyword, value)
    return identity


def _reference(header: Dataset, study_uid: str, sop_instance_uid: str, class_uid: str) -> Dataset:
    reference = Dataset()
    # highdicom asks for these of every source; what is true of the patient is put in afterwards, from `identity`.
    for keyword in _ALWAYS:
        setattr(reference, keyword, "")
    reference.StudyInstanceUID = study_uid
    reference.SeriesInstanceUID = _uid(header, "SeriesInstanceUID") or uids.derived("2.25", study_uid, "?")
    reference.SOPInstanceUID = sop_instance_uid
    reference.SOPClassUID = class_uid
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        value = integer(header, keyword)
        if value is not None and 0 <= value <= 65535:
            setattr(reference, keyword, value)
    reference.SamplesPerPixel = integer(header, "SamplesPerPixel") or 1
    reference.PhotometricInterpretation = _matching(r"[A-Z0-9_ ]{1,16}")(
        _text(header, "PhotometricInterpretation")
    )
    frames = integer(header, "NumberOfFrames")
    if frames is not None and 1 < frames < 2**31:
        reference.NumberOfFrames = frames
    _add_greyscale(header, reference)
    return reference


def _add_greyscale(header: Dataset, reference: Dataset) -> None:
    """Take over how stored values become grey, which a presentation state repeats (PS3.3, section C.11)."""
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    if slope and intercept is not None:
        reference.RescaleSlope, reference.RescaleIntercept = _decimal(slope), _decimal(intercept)
        reference.RescaleType = _limited(16)(_text(header, "RescaleType")) or "US"
    centre, width = number(header, "WindowCenter"), number(header, "WindowWidth")
    if centre is not None and width is not None and width >= 1:
        reference.WindowCenter, reference.WindowWidth = _decimal(centre), _decimal(width)
        function = _matching(r"LINEAR|LINEAR_EXACT|SIGMOID")(_text(header, "VOILUTFunction"))
        if function:
            reference.VOILUTFunction = function
    for keyword in _LUTS:
        try:
            table = header[keyword].value[0]
            if len(table.LUTDescriptor) == 3 and table["LUTData"].value:
                setattr(reference, keyword, [copy.deepcopy(table)])
        except Exception:  # noqa: S112 - missing, empty or broken: the image has none then
            continue


def _decimal(value: float) -> str:
    return f"{value:.10g}"  # DS holds 16 characters


def _text(header: Dataset, keyword: str) -> str:
    try:
        value = header.get(keyword)
        if isinstance(value, MultiValue | list | tuple):
            value = value[0] if value else None
        return "" if value is None or isinstance(value, bytes) else str(value).strip(" \0")
    except Exception:  # an element may be broken in any way
        return ""


def _uid(header: Dataset, keyword: str) -> str:
    try:
        return uids.checked(_text(header, keyword))
    except uids.InvalidUidError:
        return ""


def _one_of(header: Dataset, keywords: tuple[str, ...], pattern: str) -> str:
    return next((value for keyword in keywords if (value := _matching(pattern)(_text(header, keyword)))), "")
