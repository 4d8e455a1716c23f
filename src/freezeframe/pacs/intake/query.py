"""Pulling by C-FIND and C-MOVE in the study root (PS3.4, annex C): the PACS sends to this node's C-STORE service."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association

from freezeframe.errors import UserError
from freezeframe.imaging.header import integer, text
from freezeframe.pacs import uids
from freezeframe.pacs.configuration import NodeConfiguration, QueryPull
from freezeframe.pacs.database import Database
from freezeframe.pacs.intake.offered import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from freezeframe.pacs.intake.pulling import ArchiveError, FoundStudy, Instance, Puller
from freezeframe.pacs.security.tls import client_context

CONNECT_SECONDS, SILENCE_SECONDS = 30, 120
MOST_ANSWERS = 50_000
"""To one question."""

_BROKEN_OFF = "The PACS broke the association off."
_FIND, _MOVE = UID("1.2.840.10008.5.1.4.1.2.2.1"), UID("1.2.840.10008.5.1.4.1.2.2.2")  # study root
_PENDING = (0xFF00, 0xFF01)
_SUCCESS, _SOME_FAILED = 0x0000, 0xB000


def query_puller(database: Database, configuration: NodeConfiguration, source: QueryPull) -> Puller:
    """Return what polls a PACS by C-FIND. The PACS must know this node's AE title as a destination of C-MOVE."""
    return Puller(database, source, QueryArchive(configuration, source))


class QueryArchive:
    """A PACS that is a query/retrieve SCP; an `Archive`.

    Parameters
    ----------
    configuration : NodeConfiguration
        With the AE title that images are sent to.
    source : QueryPull
        Where the PACS is.
    """

    def __init__(self, configuration: NodeConfiguration, source: QueryPull) -> None:
        self._ae_title, self._source = configuration.ae_title, source
        self._association: Association | None = None

    @contextmanager
    def session(self) -> Iterator[None]:
        """Hold an association."""
        source = self._source
        entity = ApplicationEntity(self._ae_title)
        entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.acse_timeout = entity.connection_timeout = CONNECT_SECONDS
        entity.dimse_timeout = entity.network_timeout = SILENCE_SECONDS
        entity.add_requested_context(_FIND)
        entity.add_requested_context(_MOVE)
        try:
            tls = None if source.tls is None else (client_context(source.tls), source.address)
        except UserError as error:
            raise ArchiveError(str(error)) from error
        association = entity.associate(source.address, source.port, ae_title=source.ae_title, tls_args=tls)
        if not association.is_established:
            raise ArchiveError(
                "The PACS refuses the association."
                if association.is_rejected
                else "The PACS can't be reached, or breaks the association off."
            )
        self._association = association
        try:
            accepted = {context.abstract_syntax for context in association.accepted_contexts}
            if not accepted.issuperset((_FIND, _MOVE)):
                raise ArchiveError("The PACS takes no C-FIND or no C-MOVE in the study root.")
            yield
        except RuntimeError:  # pynetdicom's, where the association ended between two messages
            raise ArchiveError(_BROKEN_OFF) from None
        finally:
            self._association = None
            if association.is_established:
                association.release()
            entity.shutdown()

    def studies(self, first: date, last: date) -> Iterator[FoundStudy]:
        """Yield the studies of these days that hold one of the modalities."""
        seen: set[str] = set()
        for modality in self._source.modalities or ("",):
            question = _question("STUDY", StudyInstanceUID="", NumberOfStudyRelatedInstances="")
            question.StudyDate = f"{first:%Y%m%d}-{last:%Y%m%d}"
            question.ModalitiesInStudy = modality
            for answer in self._find(question):
                uid = _uid(answer, "StudyInstanceUID")
                if uid and uid not in seen:
                    seen.add(uid)
                    yield FoundStudy(uid, integer(answer, "NumberOfStudyRelatedInstances"))

    def instances(self, study_uid: str) -> Iterator[Instance]:
        """Yield what a study holds: its series first, since a key of each level above is asked for."""
        question = _question("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", Modality="")
        for series in self._find(question):
            series_uid, modality = _uid(series, "SeriesInstanceUID"), text(series, "Modality")
            wanted = self._source.modalities
            if not series_uid or (modality and wanted and modality not in wanted):
                continue
            keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
            for answer in self._find(_question("IMAGE", **keys, SOPInstanceUID="", SOPClassUID="")):
                uid = _uid(answer, "SOPInstanceUID")
                if uid:
                    yield Instance(study_uid, series_uid, uid, _uid(answer, "SOPClassUID"), modality)

    def fetch(self, instances: Sequence[Instance]) -> int:
        """Have instances sent to this node, a series at a time; return how many the PACS says that it has sent."""
        by_series: dict[str, list[Instance]] = {}
        for instance in instances:
            by_series.setdefault(instance.series_uid, []).append(instance)
        return sum(self._move(some) for some in by_series.values())

    def _move(self, instances: Sequence[Instance]) -> int:
        question = _question("IMAGE")
        question.StudyInstanceUID, question.SeriesInstanceUID = (
            instances[0].study_uid,
            instances[0].series_uid,
        )
        question.SOPInstanceUID = [instance.sop_instance_uid for instance in instances]
        status, sent = Dataset(), 0
        answers = self._held().send_c_move(question, self._ae_title, _MOVE)
        for status, _ in answers:
            sent = integer(status, "NumberOfCompletedSuboperations") or sent
        self._check(status, "C-MOVE", (_SUCCESS, _SOME_FAILED))
        return sent

    def _find(self, question: Dataset) -> list[Dataset]:
        found: list[Dataset] = []
        status = Dataset()
        for status, answer in self._held().send_c_find(question, _FIND):
            if integer(status, "Status") in _PENDING and answer is not None:
                found.append(answer)
                if len(found) > MOST_ANSWERS:
                    self._held().abort()
                    raise ArchiveError("The PACS answers without end.")
        self._check(status, "C-FIND", (_SUCCESS,))
        return found

    def _held(self) -> Association:
        if self._association is None or not self._association.is_established:
            raise ArchiveError(_BROKEN_OFF)
        return self._association

    @staticmethod
    def _check(status: Dataset, what: str, good: tuple[int, ...]) -> None:
        found = integer(status, "Status")
        if found is None:
            raise ArchiveError(f"The PACS gives no answer to {what}.")
        if found not in good:
            raise ArchiveError(f"The PACS answers {what} with status {found:04X}.")


def _question(level: str, **keys: str) -> Dataset:
    question = Dataset()
    question.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(question, keyword, value)
    return question


def _uid(answer: Dataset, keyword: str) -> str:
    value = text(answer, keyword)
    try:
        return uids.checked(value) if value else ""
    except uids.InvalidUidError:
        return ""
