"""Images of a PACS by dates, modality or accession numbers: QIDO-RS and WADO-RS, or C-FIND and C-MOVE."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pynetdicom import AllStoragePresentationContexts, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association

from freezeframe.errors import FreezeframeError, UserError
from freezeframe.pacs.configuration import QueryPull, Tls, WebPull
from freezeframe.pacs.security.tls import client_context

SECONDS = 60.0
PAGE = 100
"""Studies that are asked for at once."""
MOST_PAGES = 10_000
_FIND, _MOVE = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"  # study root
_PENDING = (0xFF00, 0xFF01)
ALL_SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
)  # fmt: skip
"""Transfer syntaxes that the imaging room decodes."""


class PacsError(FreezeframeError):
    """The PACS does not answer as it should."""


@dataclass(frozen=True)
class Wanted:
    """Which studies.

    Attributes
    ----------
    first, last : str
        Dates, YYYYMMDD; '' leaves that end open.
    modalities : tuple of str
        Of the images; () takes all.
    accession_numbers : tuple of str
        Only these; () takes all of the dates.
    """

    first: str = ""
    last: str = ""
    modalities: tuple[str, ...] = ()
    accession_numbers: tuple[str, ...] = ()

    def questions(self) -> Iterator[dict[str, str]]:
        """Yield what to ask for, as attributes and values."""
        dates = {"StudyDate": f"{self.first}-{self.last}"} if self.first or self.last else {}
        for number in self.accession_numbers or ("",):
            for modality in self.modalities or ("",):
                accession = {"AccessionNumber": number} if number else {}
                kind = {"ModalitiesInStudy": modality} if modality else {}
                yield {**dates, **accession, **kind}


@dataclass(frozen=True)
class Found:
    """An image of a PACS, and the accession number that labels may be given by."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    accession_number: str


class Archive(Protocol):
    """A PACS."""

    def find(self, wanted: Wanted) -> Iterator[list[Found]]:
        """Yield the images of one study after the other."""
        ...

    def fetch(self, found: Found) -> Dataset:
        """Return an image."""
        ...


class WebArchive:
    """A PACS that answers QIDO-RS and WADO-RS.

    Parameters
    ----------
    source : WebPull
        Where it is, and the login.
    """

    def __init__(self, source: WebPull) -> None:
        session = requests.Session()
        session.trust_env = False
        if source.authority is not None:
            session.verify = str(source.authority)
        if source.token_file is not None:
            session.headers["Authorization"] = (
                f"Bearer {source.token_file.read_text(encoding='utf-8').strip()}"
            )
        elif source.user is not None:
            password = (
                ""
                if source.password_file is None
                else source.password_file.read_text(encoding="utf-8").strip()
            )
            session.auth = (source.user, password)
        self._client = DICOMwebClient(source.url, session=session)

    def find(self, wanted: Wanted) -> Iterator[list[Found]]:
        """Yield the images of one study after the other."""
        seen: set[str] = set()
        for question in wanted.questions():
            for page in range(MOST_PAGES):
                studies = self._asked(
                    lambda question=question, page=page: self._client.search_for_studies(
                        limit=PAGE, offset=page * PAGE, fields=["AccessionNumber"], search_filters=question
                    )
                )
                new = [study for study in studies if _first(study, "0020000D") not in seen]
                for study in new:
                    uid, number = _first(study, "0020000D"), _first(study, "00080050")
                    seen.add(uid)
                    yield list(self._images(uid, number, wanted.modalities))
                if len(studies) < PAGE or not new:
                    break

    def _images(self, study_uid: str, number: str, modalities: tuple[str, ...]) -> Iterator[Found]:
        for series in self._asked(lambda: self._client.search_for_series(study_uid)):
            if modalities and _first(series, "00080060") not in modalities:
                continue
            series_uid = _first(series, "0020000E")
            instances = self._asked(
                lambda series_uid=series_uid: self._client.search_for_instances(study_uid, series_uid)
            )
            yield from (Found(study_uid, series_uid, _first(one, "00080018"), number) for one in instances)

    def fetch(self, found: Found) -> Dataset:
        """Return an image, in the transfer syntax that it is stored in."""
        media = (("application/dicom", "*"),)
        return self._asked(
            lambda: self._client.retrieve_instance(
                found.study_uid, found.series_uid, found.sop_instance_uid, media_types=media
            )
        )

    def _asked(self, ask: Any) -> Any:
        try:
            return ask()
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else "unknown"
            raise PacsError(f"The PACS answers with HTTP status {status}.") from None
        except requests.RequestException as error:
            raise PacsError(f"The PACS does not answer ({type(error).__name__}).") from None


class QueryArchive:
    """A PACS that answers C-FIND and sends by C-MOVE to a port that is opened here for as long as it takes.

    Parameters
    ----------
    source : QueryPull
        Where it is.
    ae_title, address : str
        Of this side, as the PACS knows it as a destination.
    port : int
        Likewise. It must not be the running node's.
    senders : tuple of str
        AE titles that the PACS may send from: often others than it answers on.
    tls : Tls, optional
        With which it is listened.
    """

    def __init__(
        self,
        source: QueryPull,
        ae_title: str,
        address: str,
        port: int,
        senders: tuple[str, ...],
        tls: Tls | None,
    ) -> None:
        self._source, self._ae_title, self._place = source, ae_title, (address, port)
        self._senders, self._tls = senders, tls
        self._association: Association | None = None
        self._arrived: SimpleQueue[Dataset] = SimpleQueue()

    @contextmanager
    def opened(self) -> Iterator["QueryArchive"]:
        """Listen, and hold an association, for the length of a block."""
        entity = ApplicationEntity(self._ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = (
            SECONDS
        )
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), list(ALL_SYNTAXES))
        entity.add_requested_context(_FIND)
        entity.add_requested_context(_MOVE)
        entity.require_called_aet = True
        entity.require_calling_aet = [self._source.ae_title, *self._senders]
        source = self._source
        try:
            server = entity.start_server(
                self._place, block=False, evt_handlers=[(evt.EVT_C_STORE, self._take)]
            )
        except OSError as error:
            raise UserError(
                f"Port {self._place[1]} can't be opened ({error.strerror}).", "a free port.", "See --receive."
            ) from error
        try:
            tls = None if source.tls is None else (client_context(source.tls), source.address)
            self._association = entity.associate(
                source.address, source.port, ae_title=source.ae_title, tls_args=tls
            )
            if not self._association.is_established:
                raise PacsError("The PACS can't be reached, or refuses the association.")
            yield self
        finally:
            if self._association is not None and self._association.is_established:
                self._association.release()
            if server is not None:
                server.shutdown()

    def find(self, wanted: Wanted) -> Iterator[list[Found]]:
        """Yield the images of one study after the other."""
        seen: set[str] = set()
        for question in wanted.questions():
            given = {"StudyInstanceUID": "", "AccessionNumber": "", **question}
            for study in self._find("STUDY", given):
                uid = str(study.get("StudyInstanceUID", ""))
                if uid and uid not in seen:
                    seen.add(uid)
                    number = str(study.get("AccessionNumber", "") or "")
                    yield list(self._images(uid, number, wanted.modalities))

    def _images(self, study_uid: str, number: str, modalities: tuple[str, ...]) -> Iterator[Found]:
        for series in self._find(
            "SERIES", {"StudyInstanceUID": study_uid, "SeriesInstanceUID": "", "Modality": ""}
        ):
            if modalities and series.get("Modality", "") not in modalities:
                continue
            keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": str(series.SeriesInstanceUID)}
            for one in self._find("IMAGE", {**keys, "SOPInstanceUID": ""}):
                yield Found(study_uid, keys["SeriesInstanceUID"], str(one.SOPInstanceUID), number)

    def fetch(self, found: Found) -> Dataset:
        """Have an image sent here, and return it."""
        identifier = _identifier(
            "IMAGE",
            {
                "StudyInstanceUID": found.study_uid,
                "SeriesInstanceUID": found.series_uid,
                "SOPInstanceUID": found.sop_instance_uid,
            },
        )
        for status, _ in self._held().send_c_move(identifier, self._ae_title, _MOVE):
            if not status or status.Status not in (*_PENDING, 0x0000):
                code = f"0x{status.Status:04X}" if status else "no answer"
                raise PacsError(
                    f"The PACS does not send (C-MOVE: {code}). It must know this AE title and port."
                )
        try:
            for _ in range(PAGE):
                dataset = self._arrived.get(timeout=SECONDS)
                if dataset.get("SOPInstanceUID") == found.sop_instance_uid:
                    return dataset
        except Empty:
            pass
        raise PacsError("The PACS says that it has sent an image, and none came.")

    def _take(self, event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        self._arrived.put(dataset)
        return 0x0000

    def _find(self, level: str, attributes: dict[str, str]) -> list[Dataset]:
        found = []
        for status, answer in self._held().send_c_find(_identifier(level, attributes), _FIND):
            if not status or status.Status not in (*_PENDING, 0x0000):
                raise PacsError(
                    f"The PACS refuses C-FIND ({'no answer' if not status else hex(status.Status)})."
                )
            if answer is not None and status.Status in _PENDING:
                found.append(answer)
        return found

    def _held(self) -> Association:
        if self._association is None or not self._association.is_established:
            raise PacsError("The PACS broke the association off.")
        return self._association


def _identifier(level: str, attributes: dict[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in attributes.items():
        setattr(identifier, keyword, value)
    return identifier


def _first(attributes: dict[str, Any], tag: str) -> str:
    values = attributes.get(tag, {}).get("Value") or [""]
    return str(values[0] or "")
