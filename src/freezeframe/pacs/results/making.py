"""From what a bundle said of a study to the objects that leave the node."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.uid import (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)

from freezeframe.errors import FreezeframeError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.reading.findings import StudyReading
from freezeframe.pacs.results.context import Context
from freezeframe.pacs.results.fhir_bundle import fhir_bundle
from freezeframe.pacs.results.hl7_message import hl7_message
from freezeframe.pacs.results.presentation_state import presentation_states
from freezeframe.pacs.results.secondary_capture import secondary_captures
from freezeframe.pacs.results.source import read_source
from freezeframe.pacs.results.structured_report import structured_report


class NoSourceError(FreezeframeError):
    """None of a study's images is there any more, so nothing can be said about it in a way that a PACS takes."""


@dataclass(frozen=True, eq=False)
class MadeObject:
    """One object of a result.

    Attributes
    ----------
    kind : str
        'sr', 'sc', 'gsps', 'hl7' or 'fhir'.
    sop_class_uid, sop_instance_uid : str
        '' for hl7 and fhir.
    content : bytes
        A DICOM file (PS3.10), an HL7 message in UTF-8 without MLLP's frame, or FHIR as JSON in UTF-8.
    """

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    content: bytes


def make_objects(
    reading: StudyReading,
    sources: Mapping[str, Path],
    heat_maps: Mapping[str, Path],
    configuration: NodeConfiguration,
    now: float,
) -> list[MadeObject]:
    """Make the objects of a result that the configuration asks for.

    The same arguments give the same bytes and UIDs, so that a retry makes nothing twice.

    Parameters
    ----------
    reading : StudyReading
        What the bundle said.
    sources : mapping of str to Path
        DICOM file of each image, by its SOP instance UID.
    heat_maps : mapping of str to Path
        8-bit grey PNG of images that have one, by SOP instance UID.
    configuration : NodeConfiguration
        `results` says which objects, and which outcomes have any; HL7 and FHIR are made where a destination takes them.
    now : float
        Seconds since 1970; dates the objects.

    Returns
    -------
    list of MadeObject
        The report first. Empty where the configuration wants nothing of this outcome.

    Raises
    ------
    NoSourceError
        If no header of the images that were read (or, where none was, of the others) can be read.
    """
    wanted = configuration.results
    if (reading.outcome == "negative" and not wanted.negative) or (
        reading.outcome == "refused" and not wanted.refused
    ):
        return []
    context = _context(reading, sources, configuration, now)
    made: list[MadeObject] = []
    if wanted.structured_report:
        made.append(_dicom(context, "sr", Comprehensive3DSRStorage, 1, structured_report(context)))
    if wanted.secondary_capture:
        captures = secondary_captures(context, heat_maps)
        made += [
            _dicom(context, "sc", SecondaryCaptureImageStorage, number, content)
            for number, content in enumerate(captures, 1)
        ]
    if wanted.presentation_state:
        made += [
            _dicom(context, "gsps", GrayscaleSoftcopyPresentationStateStorage, number, content)
            for number, content in enumerate(presentation_states(context), 1)
        ]
    taken = {destination.kind for destination in configuration.destinations}
    if "hl7" in taken:
        made.append(MadeObject("hl7", "", "", hl7_message(context)))
    if "fhir" in taken:
        made.append(MadeObject("fhir", "", "", fhir_bundle(context)))
    return made


def _context(
    reading: StudyReading, sources: Mapping[str, Path], configuration: NodeConfiguration, now: float
) -> Context:
    order = dict.fromkeys(
        [*(image.sop_instance_uid for image in reading.images), *(uid for uid, _ in reading.unreadable)]
    )
    found = [read_source(sources[uid], reading.study_uid, uid) for uid in order if uid in sources]
    readable = tuple(source for source in found if source is not None)
    known = {source.sop_instance_uid for source in readable}
    images = tuple(image for image in reading.images if image.sop_instance_uid in known)
    if not readable or (reading.images and not images):
        raise NoSourceError(f"No image of the study {reading.study_uid} is there any more.")
    return Context(replace(reading, images=images), readable, configuration, now)


def _dicom(context: Context, kind: str, class_uid: str, number: int, content: bytes) -> MadeObject:
    return MadeObject(kind, str(class_uid), context.uid(kind, number), content)
