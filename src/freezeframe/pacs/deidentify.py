"""Images without their patients, for research: PS3.15, annex E, the basic application level confidentiality profile."""

import io
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian

from freezeframe.errors import FreezeframeError
from freezeframe.pacs.deidentify_regions import Stations, clear_unused_bits
from freezeframe.pacs.deidentify_rules import EDITION, Dates, Rules
from freezeframe.pacs.deidentify_salt import Pseudonyms
from freezeframe.pacs.intake.offered import IMPLEMENTATION_CLASS_UID

IDENTITY = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers", "PatientTelecomInformation",
    "MedicalRecordLocator", "MilitaryRank", "AccessionNumber", "AdmissionID", "IssuerOfPatientID", "StudyID",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy",
    "RequestingPhysician", "ResponsiblePerson",
)  # fmt: skip
"""Attributes whose values must not be found anywhere in a result, whatever attribute they were copied to."""
SHORTEST, SHORTEST_IN_PIXELS = 4, 8
"""Characters of a value that is looked for, and in pixels, where short ones are found by chance."""
SHORTEST_NUMBER = 6
"""Digits of a number that is looked for outside of texts, where windows, exposures and UIDs hold short ones."""
_ELEMENT_HEADER = 12
"""Bytes before the value of an explicit OB or OW (PS3.5, section 7.1.2)."""
_TEXT = ("LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "UR", "AS", "DA", "DT", "TM")
_METHOD = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113101", "Clean Pixel Data Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)


class NotCleanError(FreezeframeError):
    """An image still tells who its patient is, or is none."""


@dataclass(frozen=True)
class Deidentified:
    """An image without its patient.

    Attributes
    ----------
    content : bytes
        A DICOM file.
    patient, site : str
        Pseudonyms; `site` is '' where the image names no institution.
    study_uid, sop_instance_uid : str
        The new ones.
    """

    content: bytes
    patient: str
    site: str
    study_uid: str
    sop_instance_uid: str


def deidentify(
    original: Dataset, pseudonyms: Pseudonyms, stations: Stations | None = None, dates: Dates = "shift"
) -> Deidentified:
    """Take the patient out of an image.

    Parameters
    ----------
    original : Dataset
        As it was read, with its file meta information; it is not changed.
    pseudonyms : Pseudonyms
        Of this place.
    stations : Stations, optional
        Where which station burns text into its images.
    dates : str
        ``shift`` or ``remove``.

    Raises
    ------
    NotCleanError
        If it has no pixels, or a value that tells who the patient is would be left.
    BurnedInError
        If text may be burned in, and no station of the table fits, or an overlay is drawn where it can't be cleared.

    Notes
    -----
    Beyond the profile, elements that the data dictionary has not go, and so do curves, overlays, also those in unused
    bits of the pixels, and every text in which a name or number of the patient stands; file meta information and
    preamble are made anew.
    """
    if "PixelData" not in original:
        raise NotCleanError("it has no pixels")
    dataset = deepcopy(original)
    secrets = sorted(set(identifying(original)), key=len, reverse=True)
    identity = patient_identity(original)
    patient, site = (
        pseudonyms.patient(identity),
        pseudonyms.site(str(original.get("InstitutionName", "") or "")),
    )
    cleaned_pixels = (stations or Stations()).clean(dataset)
    clear_unused_bits(dataset)
    Rules(pseudonyms, identity, dates).apply(dataset)
    _drop_copies(dataset, secrets)

    dataset.PatientID, dataset.PatientName = patient, patient
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "ReferringPhysicianName",
                    "StudyDate", "StudyTime"):  # fmt: skip
        if keyword not in dataset:  # type 2 (PS3.3, C.7.1.1 and C.7.2.1): there, if empty
            setattr(dataset, keyword, "")
    if site:
        dataset.InstitutionName = site
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"freezeframe: DICOM PS3.15 {EDITION}, table E.1-1"
    wanted = {"113100", *(["113101"] if cleaned_pixels else []), *(["113107"] if dates == "shift" else [])}
    dataset.DeidentificationMethodCodeSequence = [
        _code(value, meaning) for value, meaning in _METHOD if value in wanted
    ]
    dataset.LongitudinalTemporalInformationModified = "MODIFIED" if dates == "shift" else "REMOVED"
    if cleaned_pixels:
        dataset.BurnedInAnnotation = "NO"

    content = _written(dataset)
    _check(content, dataset, secrets)
    return Deidentified(content, patient, site, str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID))


def patient_identity(dataset: Dataset) -> str:
    """Return what tells patients apart: issuer and number; without a number name and birth date, or else the study."""
    number = str(dataset.get("PatientID", "") or "").strip()
    if number:
        return "\0".join(("id", str(dataset.get("IssuerOfPatientID", "") or "").strip(), number))
    name, born = (
        str(dataset.get(keyword, "") or "").strip() for keyword in ("PatientName", "PatientBirthDate")
    )
    if name and born:
        return "\0".join(("name", name.casefold(), born))
    return "\0".join(("study", str(dataset.get("StudyInstanceUID", ""))))


def identifying(dataset: Dataset) -> Iterator[str]:
    """Yield the names and numbers of a patient and a study, and of their parts, that may stand elsewhere too."""
    for keyword in IDENTITY:
        value = dataset.get(keyword)
        for one in value if isinstance(value, list | MultiValue) else [value]:
            text = str(one or "").strip()
            parts = [text]
            if one is not None and dataset[keyword].VR == "PN":
                parts += re.split(r"[\^= ]", text)
                parts += _as_people_write(text)
            yield from (part.strip() for part in parts if len(part.strip()) >= SHORTEST)


def _as_people_write(name: str) -> Iterator[str]:
    """Yield family and given name together: those of many people are each too short to be looked for alone."""
    for group in name.split("="):
        parts = [part.strip() for part in group.split("^")[:2] if part.strip()]
        if len(parts) == 2:
            family, given = parts
            yield from (f"{family} {given}", f"{given} {family}", f"{family}, {given}")


def _drop_copies(dataset: Dataset, secrets: list[str]) -> None:
    """Empty each text in which a name or number stands. Coded strings are left: the check comes last."""
    if not secrets:
        return
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(secret)}(?!\w)" for secret in secrets), re.IGNORECASE)
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                _drop_copies(item, secrets)
        elif element.VR in _TEXT and pattern.search(str(element.value)):
            element.value = None


def _check(content: bytes, dataset: Dataset, secrets: list[str]) -> None:
    """Look for each name and number in all bytes of the result.

    Raises
    ------
    NotCleanError
        If one is there.
    """
    header = content[: len(content) - len(dataset.PixelData) - _ELEMENT_HEADER]  # pixels are the last element
    lowered, whole = header.lower(), content.lower()
    own = str(dataset.PatientID).lower().encode()
    for secret in secrets:
        if secret.isdigit() and len(secret) < SHORTEST_NUMBER:
            continue
        for encoding in (
            "utf-8",
            "latin-1",
            *([] if secret.isascii() else ["iso2022_jp", "euc_kr", "gb18030"]),
        ):
            try:
                sought = secret.lower().encode(encoding)
            except UnicodeEncodeError:
                continue
            if sought in own:
                continue
            word = re.compile(rb"(?<![0-9A-Za-z])" + re.escape(sought) + rb"(?![0-9A-Za-z])")
            if word.search(lowered) or (len(sought) >= SHORTEST_IN_PIXELS and sought in whole):
                raise NotCleanError("a name or number of the patient is left in it")


def _written(dataset: Dataset) -> bytes:
    """Return a DICOM file whose preamble and file meta information are new."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        syntax = ExplicitVRLittleEndian
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    big = dataset.original_encoding[1] is False
    if big and int(dataset.get("BitsAllocated", 8)) > 8:
        raise NotCleanError("its pixels are big-endian, which is retired")
    plain = Dataset()
    plain.update({element.tag: element for element in dataset})
    plain.file_meta, plain.preamble = meta, b"\0" * 128
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, plain, enforce_file_format=True)
    return buffer.getvalue()


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
