"""What all objects of one result have in common: how they are called, numbered and dated."""

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from pydicom.dataset import Dataset

from freezeframe.pacs import uids
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.reading.findings import ImageReading, StudyReading
from freezeframe.pacs.results.source import SourceImage, printable
from freezeframe.pacs.studies.images import MANUFACTURER

CHARACTER_SET = "ISO_IR 192"
"""UTF-8 (PS3.3, section C.12.1.1.2), in which the names of every source can be written."""
SERIES_NUMBERS = {"sr": 9001, "sc": 9002, "gsps": 9003}
"""Of a study's first version, far from those that modalities give; each further version adds 10."""
_LONGEST_TEXT = 64  # characters of LO


@dataclass(frozen=True, eq=False)
class Context:
    """A reading, and what is needed to write about it.

    Attributes
    ----------
    reading : StudyReading
        What the bundle said.
    sources : tuple of SourceImage
        The images whose headers can be read: those of the reading in its order, then the unreadable ones.
    configuration : NodeConfiguration
        Of the node.
    now : float
        Seconds since 1970: when the objects are made.
    """

    reading: StudyReading
    sources: tuple[SourceImage, ...]
    configuration: NodeConfiguration
    now: float

    @property
    def language(self) -> str:
        """'en' or 'es'."""
        return self.configuration.results.language

    @property
    def identity(self) -> Dataset:
        """Of patient and study."""
        return self.sources[0].identity

    @property
    def moment(self) -> datetime:
        """When the objects are made, in the time zone that the images declare, otherwise in this machine's."""
        declared = self.sources[0].timezone
        moment = datetime.fromtimestamp(self.now, UTC)
        if not declared:
            return moment.astimezone()
        offset = timedelta(hours=int(declared[1:3]), minutes=int(declared[3:]))
        return moment.astimezone(timezone(-offset if declared[0] == "-" else offset))

    @property
    def description(self) -> str:
        """Model and version, as viewers show them with a series.

        Such as ``AI pneumonia-three 0.1.0 (3f9a1c2b)``; at most 64 characters.
        """
        model = self.reading.model
        rest = f" {model.software} ({model.sha256[:8]})"
        return f"AI {printable(model.name)[: _LONGEST_TEXT - 3 - len(rest)]}{rest}"

    def uid(self, *parts: object) -> str:
        """Make a UID that is the same each time for a version of a study, a bundle and what it is of.

        One bundle that is configured under two names has UIDs of its own under each: it may read other images.
        """
        reading = self.reading
        return uids.derived(
            self.configuration.uid_root,
            reading.study_uid,
            reading.version,
            reading.model.configured_as,
            reading.model.sha256,
            reading.model.operating_point,
            *parts,
        )

    def source(self, sop_instance_uid: str) -> SourceImage | None:
        """Return an image's header; None where it can't be read."""
        return next((entry for entry in self.sources if entry.sop_instance_uid == sop_instance_uid), None)

    def target(self, image: ImageReading) -> str:
        """Return the class that is looked for: the operating point's, or without one that the image was decided on."""
        return self.reading.model.positive_class or image.decision

    def constructor_arguments(self, kind: str, number: int) -> dict[str, Any]:
        """Return what the constructors of all kinds of objects ask for.

        Parameters
        ----------
        kind : str
            'sr', 'sc' or 'gsps'; each is a series of its own.
        number : int
            Of the object in its series, from 1.
        """
        arguments: dict[str, Any] = {
            "series_instance_uid": self.uid("series", kind),
            "series_number": SERIES_NUMBERS[kind] + 10 * (self.reading.version - 1),
            "sop_instance_uid": self.uid(kind, number),
            "instance_number": number,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": printable(self.reading.model.name)[:_LONGEST_TEXT],
            "software_versions": self.reading.model.software,
            "device_serial_number": self.reading.model.sha256[:_LONGEST_TEXT],
            "series_description": self.description,
            "specific_character_set": CHARACTER_SET,
        }
        if institution := printable(self.configuration.results.institution)[:_LONGEST_TEXT]:
            arguments["institution_name"] = institution
        return arguments

    def describe_body_part(self, data: Dataset, source: SourceImage) -> None:
        """Say of an image or a presentation state what was examined, as its source does.

        A part with two sides, or one that is not known, needs Laterality, if only an empty one (PS3.3, section
        C.7.3.1); one without sides must not have it.
        """
        if source.body_part:
            data.BodyPartExamined = source.body_part
        if source.laterality is not None:
            data.Laterality = source.laterality

    def finish(self, data: Dataset) -> bytes:
        """Date an object by `now` instead of by the clock, and write it as a file (PS3.10)."""
        moment = self.moment
        day, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
        for name in ("InstanceCreation", "Content", "Series", "PresentationCreation"):
            if name == "Series" or f"{name}Date" in data:
                setattr(data, f"{name}Date", day)
                setattr(data, f"{name}Time", time)
        if "DateOfSecondaryCapture" in data:
            data.DateOfSecondaryCapture, data.TimeOfSecondaryCapture = day, time
        for equipment in data.get("ContributingEquipmentSequence", []):  # highdicom names itself there
            equipment.ContributionDateTime = day + time
        data.TimezoneOffsetFromUTC = moment.strftime("%z")[:5]
        written = io.BytesIO()
        data.save_as(written, enforce_file_format=True)
        return written.getvalue()
