"""What all pulling from a PACS has in common: which studies are asked for, what of them is missing here, and when."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from freezeframe.errors import FreezeframeError
from freezeframe.pacs.configuration import QueryPull, WebPull
from freezeframe.pacs.database import Database
from freezeframe.pacs.intake.offered import IMAGE_CLASSES
from freezeframe.pacs.tables import Cursor, Image, ResultObject

MOST_STUDIES = 20_000
"""Of one poll."""
MOST_DAYS_BACK = 30
"""That a poll catches up on after a long time without one."""
AT_ONCE = 20
"""Images that one call fetches, so that its caller can do other things in between."""
LONGEST_WAIT = 900.0
"""Seconds between polls of a PACS that does not answer; and, times 96, between attempts at an image: one day."""
_MOST_DOUBLINGS = 16
_UIDS_IN_A_QUERY = 500  # a database takes only so many values in one question
_log = logging.getLogger(__name__)


class ArchiveError(FreezeframeError):
    """A PACS can't be reached, or does not answer as it should; the message holds no patient data."""


@dataclass(frozen=True)
class FoundStudy:
    """A study that a PACS has; `images` is how many instances it says that it holds, None where it does not say."""

    study_uid: str
    images: int | None


@dataclass(frozen=True)
class Instance:
    """An instance that a PACS has. Class and modality are '' where it does not say them."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str


class Archive(Protocol):
    """How one kind of PACS is asked; each method may raise `ArchiveError`. UIDs that it returns are valid."""

    def session(self) -> AbstractContextManager[object]:
        """Return what is held open while the others are called."""
        ...

    def studies(self, first: date, last: date) -> Iterator[FoundStudy]:
        """Yield the studies of these days, both included."""
        ...

    def instances(self, study_uid: str) -> Iterator[Instance]:
        """Yield what a study holds."""
        ...

    def fetch(self, instances: Sequence[Instance]) -> int:
        """Have instances of one study sent or stored here, and return of how many that is known."""
        ...


class Puller:
    """Polls a PACS, and fetches the images that are not here: new ones, and those that were missed before.

    Left out are objects that are no images, those of other modalities, and results of this node. An image that was
    deleted here by retention is not fetched again, and one that could not be fetched is tried again after ever longer
    times. How far it has come is in the database.

    Parameters
    ----------
    database : Database
        Of the node.
    source : WebPull or QueryPull
        Of the configuration.
    archive : Archive
        Asks the PACS.
    """

    def __init__(self, database: Database, source: WebPull | QueryPull, archive: Archive) -> None:
        self._database, self._source, self._archive = database, source, archive
        self._cursor = f"pull {source.name}"
        self._missing: deque[Instance] = deque()
        self._tries: dict[str, tuple[int, float]] = {}
        self._next, self._failures = 0.0, 0

    def step(self, now: float) -> int:
        """Poll if it is time to, and fetch some of what is missing; call it again and again, from one thread.

        Problems of the PACS or the database are logged, and make it wait.

        Returns
        -------
        int
            How many images are known to have come or to be on their way.
        """
        if not self._missing and now < self._next:
            return 0
        try:
            with self._archive.session():
                if not self._missing:
                    self._poll(now)
                fetched = self._fetch(now)
        except (ArchiveError, SQLAlchemyError) as error:
            self._missing.clear()
            wait = min(self._source.seconds * 2.0 ** min(self._failures, _MOST_DOUBLINGS), LONGEST_WAIT)
            self._next = now + max(wait, self._source.seconds)
            self._failures += 1
            reason = str(error) if isinstance(error, ArchiveError) else type(error).__name__
            self._log(logging.WARNING, "Pulling failed.", reason=reason, attempt=self._failures)
            return 0
        if self._failures:
            self._log(logging.INFO, "Pulling works again.")
        self._failures = 0
        return fetched

    def _poll(self, now: float) -> None:
        complete, last_at = self._load()
        today = datetime.fromtimestamp(now).astimezone().date()
        since = today if last_at is None else datetime.fromtimestamp(last_at).astimezone().date()
        first = max(
            min(since, today) - timedelta(days=self._source.days_back),
            today - timedelta(days=max(MOST_DAYS_BACK, self._source.days_back)),
        )
        whole: dict[str, int] = {}
        tries: dict[str, tuple[int, float]] = {}
        # A PACS in another time zone may be a day ahead.
        for study in self._studies(first, today + timedelta(days=1)):
            if study.images is not None and complete.get(study.study_uid) == study.images:
                whole[study.study_uid] = study.images
                continue
            missing = self._wanted(self._archive.instances(study.study_uid))
            if not missing and study.images is not None:
                whole[study.study_uid] = study.images
            for instance in missing:
                tried = self._tries.get(instance.sop_instance_uid, (0, 0.0))
                tries[instance.sop_instance_uid] = tried
                if tried[1] <= now:
                    self._missing.append(instance)
        self._tries = tries
        self._save(whole, now)
        self._next = now + self._source.seconds

    def _studies(self, first: date, last: date) -> Iterator[FoundStudy]:
        for count, study in enumerate(self._archive.studies(first, last)):
            if count == MOST_STUDIES:
                self._log(logging.ERROR, "A poll finds too many studies.", reason=f"more than {MOST_STUDIES}")
                return
            yield study

    def _wanted(self, found: Iterable[Instance]) -> list[Instance]:
        candidates = {
            instance.sop_instance_uid: instance
            for instance in found
            if instance.sop_class_uid in ("", *IMAGE_CLASSES)
            and (
                not instance.modality
                or not self._source.modalities
                or instance.modality in self._source.modalities
            )
        }
        uids = list(candidates)
        with self._database.reading() as session:
            for start in range(0, len(uids), _UIDS_IN_A_QUERY):
                some = uids[start : start + _UIDS_IN_A_QUERY]
                for column in (Image.sop_instance_uid, ResultObject.sop_instance_uid):
                    for known in session.scalars(select(column).where(column.in_(some))):
                        candidates.pop(known, None)
        return list(candidates.values())

    def _fetch(self, now: float) -> int:
        some: list[Instance] = []
        while self._missing and len(some) < AT_ONCE:
            if some and self._missing[0].study_uid != some[0].study_uid:
                break
            some.append(self._missing.popleft())
        if not some:
            return 0
        for instance in some:
            # Whether it has come is seen at the next poll: then it is not missing any more.
            tried = self._tries.get(instance.sop_instance_uid, (0, 0.0))[0] + 1
            wait = min(self._source.seconds * 2.0 ** min(tried, _MOST_DOUBLINGS), 96 * LONGEST_WAIT)
            self._tries[instance.sop_instance_uid] = (tried, now + wait)
        return self._archive.fetch(some)

    def _load(self) -> tuple[dict[str, int], float | None]:
        with self._database.reading() as session:
            row = session.get(Cursor, self._cursor)
            return ({}, None) if row is None else (row.value["complete"], row.at)

    def _save(self, complete: dict[str, int], now: float) -> None:
        with self._database.transaction() as session:
            session.merge(Cursor(name=self._cursor, value={"complete": complete}, at=now))

    def _log(self, level: int, message: str, **fields: object) -> None:
        _log.log(level, message, extra={"source": self._source.name, **fields})
