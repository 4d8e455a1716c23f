"""Pulling by DICOMweb: QIDO-RS says what there is, WADO-RS brings it (PS3.18, sections 10.6 and 10.4)."""

import base64
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import requests
from dicomweb_client import DICOMwebClient

from freezeframe.pacs import uids
from freezeframe.pacs.configuration import WebPull
from freezeframe.pacs.database import Database
from freezeframe.pacs.intake import commands
from freezeframe.pacs.intake.keeping import Keeper, Origin
from freezeframe.pacs.intake.multipart import DICOM, BrokenMultipartError, MultipartReader, media_type
from freezeframe.pacs.intake.parts import PartKeeper, TooLargeError
from freezeframe.pacs.intake.pulling import ArchiveError, FoundStudy, Instance, Puller

# dicomweb-client's helper logs each failure with its stack; it is logged here, in a line.
logging.getLogger("retrying").setLevel(logging.CRITICAL)

CONNECT_SECONDS, SILENCE_SECONDS = 10, 60
LONGEST_SECONDS = 600
"""That one image may take."""
PAGE = 200
"""Studies that are asked for at once."""
MOST_PAGES = 200

_STUDY, _SERIES, _SOP_INSTANCE, _SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
_MODALITY, _IMAGES_OF_STUDY = "00080060", "00201208"
# As it is stored; a server that knows no wildcard sends uncompressed ones.
_ACCEPT = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
_OF_THE_IMAGE = (404, 406, 410, 415)
"""Statuses that say something of one image, not of the PACS."""


def web_puller(database: Database, keeper: Keeper, source: WebPull) -> Puller:
    """Return what polls a PACS by DICOMweb."""
    return Puller(database, source, WebArchive(keeper, source))


class WebArchive:
    """A PACS that speaks DICOMweb; an `Archive`.

    Passwords and tokens are read anew for each session, as files may change. No proxies or passwords of the environment
    are used.

    Parameters
    ----------
    keeper : Keeper
        Keeps what is fetched, as files as they are sent.
    source : WebPull
        Where, and as who.
    """

    def __init__(self, keeper: Keeper, source: WebPull) -> None:
        self._keeper, self._source = keeper, source
        self._url = source.url.rstrip("/")
        self._requests: requests.Session | None = None

    @contextmanager
    def session(self) -> Iterator[None]:
        """Hold connections to the PACS."""
        with requests.Session() as session:
            session.trust_env = False
            if self._source.authority is not None:
                session.verify = str(self._source.authority)
            with _errors():
                session.headers.update(self._authorization())
            self._requests = session
            try:
                yield
            finally:
                self._requests = None

    def _authorization(self) -> dict[str, str]:
        source = self._source
        if source.token_file is not None:
            return {"Authorization": f"Bearer {source.token_file.read_text(encoding='utf-8').strip()}"}
        if source.user is None:
            return {}
        password = source.password_file.read_text(encoding="utf-8").strip() if source.password_file else ""
        return {"Authorization": f"Basic {base64.b64encode(f'{source.user}:{password}'.encode()).decode()}"}

    def studies(self, first: date, last: date) -> Iterator[FoundStudy]:
        """Yield the studies of these days that hold one of the modalities."""
        seen: set[str] = set()
        for modality in self._source.modalities or ("",):
            filters = {"StudyDate": f"{first:%Y%m%d}-{last:%Y%m%d}"}
            if modality:
                filters["ModalitiesInStudy"] = modality
            for entry in self._pages(filters):
                uid = _uid(entry, _STUDY)
                if uid and uid not in seen:
                    seen.add(uid)
                    yield FoundStudy(uid, _number(entry, _IMAGES_OF_STUDY))

    def instances(self, study_uid: str) -> Iterator[Instance]:
        """Yield what a study holds."""
        with _search_errors():
            found = self._client().search_for_instances(study_uid, fields=[_MODALITY, _SOP_CLASS, _SERIES])
        for entry in found:
            series, sop_instance = _uid(entry, _SERIES), _uid(entry, _SOP_INSTANCE)
            if series and sop_instance:
                yield Instance(
                    study_uid, series, sop_instance, _uid(entry, _SOP_CLASS), _text(entry, _MODALITY)
                )

    def fetch(self, instances: Sequence[Instance]) -> int:
        """Retrieve instances one by one, and keep them; one that the PACS does not give is left out."""
        kept = 0
        for instance in instances:
            sink = PartKeeper(self._keeper, Origin(self._source.name), instance.study_uid)
            try:
                with _errors():
                    self._retrieve(instance, sink)
            except (BrokenMultipartError, TooLargeError):
                continue
            finally:
                sink.close()
            if any(outcome.failure == commands.OUT_OF_RESOURCES for outcome in sink.outcomes):
                raise ArchiveError("Images can't be kept: the disk is full, or the database does not answer.")
            kept += sum(outcome.is_new for outcome in sink.outcomes)
        return kept

    def _retrieve(self, instance: Instance, sink: PartKeeper) -> None:
        assert self._requests is not None
        place = (
            f"studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_instance_uid}"
        )
        timeout = (CONNECT_SECONDS, SILENCE_SECONDS)
        deadline = time.monotonic() + LONGEST_SECONDS
        with self._requests.get(
            f"{self._url}/{place}", headers={"Accept": _ACCEPT}, stream=True, timeout=timeout
        ) as answer:
            if answer.status_code in _OF_THE_IMAGE:
                return
            answer.raise_for_status()
            found, parameters = media_type(answer.headers.get("Content-Type", ""))
            whole = found == DICOM
            if not whole and found != "multipart/related":
                raise BrokenMultipartError("The PACS answers with something else than DICOM files.")
            reader = None if whole else MultipartReader(parameters.get("boundary", ""), sink)
            if reader is None:
                sink.begin({})
            for block in answer.iter_content(1 << 18):
                if reader is None:
                    sink.write(memoryview(block))
                else:
                    reader.feed(block)
                if time.monotonic() > deadline:
                    raise ArchiveError("An image takes too long.")
            if reader is None:
                sink.end()
            else:
                reader.finish()

    def _pages(self, filters: dict[str, str]) -> Iterator[dict[str, Any]]:
        before: list[str] = []
        for page in range(MOST_PAGES):
            with _search_errors():
                found = self._client().search_for_studies(
                    limit=PAGE, offset=page * PAGE, fields=[_IMAGES_OF_STUDY], search_filters=filters
                )
            yield from found
            names = [_uid(entry, _STUDY) for entry in found]
            if (
                len(found) < PAGE or names == before
            ):  # a server that ignores the offset says the same for ever
                return
            before = names

    def _client(self) -> DICOMwebClient:
        assert self._requests is not None
        client = DICOMwebClient(self._url, session=self._requests, timeout=(CONNECT_SECONDS, SILENCE_SECONDS))
        client.set_http_retry_params(retry=False)  # the next poll is the retry
        return client


@contextmanager
def _errors() -> Iterator[None]:
    """Say without addresses and texts of others what went wrong."""
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise ArchiveError(f"The PACS answers with {status}.") from None
    except (requests.RequestException, OSError) as error:
        raise ArchiveError(f"The PACS can't be asked ({type(error).__name__}).") from None


@contextmanager
def _search_errors() -> Iterator[None]:
    try:
        with _errors():
            yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # dicomweb-client's of an answer that is not of the form that the standard asks for
        raise ArchiveError(f"The PACS answers with something unexpected ({type(error).__name__}).") from None


def _values(entry: dict[str, Any], tag: str) -> list[Any]:
    try:
        return list(entry[tag]["Value"])
    except (KeyError, TypeError):
        return []


def _text(entry: dict[str, Any], tag: str) -> str:
    values = _values(entry, tag)
    return str(values[0]).strip() if values else ""


def _uid(entry: dict[str, Any], tag: str) -> str:
    text = _text(entry, tag)
    try:
        return uids.checked(text) if text else ""
    except uids.InvalidUidError:
        return ""


def _number(entry: dict[str, Any], tag: str) -> int | None:
    text = _text(entry, tag)
    return int(text) if text.isascii() and text.isdigit() else None
