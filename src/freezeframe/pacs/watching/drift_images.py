"""What drift is judged on: a few numbers of each image that a bundle has read, from the results in the database."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from freezeframe.pacs.configuration import Drift
from freezeframe.pacs.tables import Result

_PART = 200
"""Results that are read at once."""


@dataclass(frozen=True)
class Seen:
    """Of one image.

    Attributes
    ----------
    image : (str, int)
        SOP instance UID and frame.
    inputs : dict of str to float
        Statistics of its pixels, in [0, 1].
    score : float or None
        Probability of the positive class; without an operating point, of the class that was decided on.
    positive, warned : bool
        Whether it was found positive; whether any warning was given.
    spread, distance : float or None
        Disagreement of the members; distance from the training images.
    """

    image: tuple[str, int]
    inputs: dict[str, float]
    score: float | None
    positive: bool
    warned: bool
    spread: float | None
    distance: float | None


@dataclass(frozen=True)
class Count:
    """How far the counting of a bundle's images has come.

    Attributes
    ----------
    sha256 : str
        Of the bundle. Another bundle under the same name begins anew.
    first_at : float
        When its first result was made.
    images : int
        That were read with it.
    unseen : int
        Of them, since the last look.
    last_id : int
        Of the newest result that is counted.
    """

    sha256: str
    first_at: float
    images: int
    unseen: int
    last_id: int

    def looked(self) -> "Count":
        """Return it as after a look."""
        return replace(self, unseen=0)


@dataclass(frozen=True)
class Window:
    """The images that a look judges.

    Attributes
    ----------
    baseline : list of Seen
        The first ones of the bundle, at most `Drift.baseline`.
    recent : list of Seen
        The newest ones, at most `Drift.window`, newest first.
    """

    baseline: list[Seen]
    recent: list[Seen]

    @property
    def newest(self) -> list[Seen]:
        """The newest images that are not in the baseline."""
        first = {seen.image for seen in self.baseline}
        return [seen for seen in self.recent if seen.image not in first]


def count_images(session: Session, bundle: str, before: dict[str, Any] | None) -> Count | None:
    """Count the images of a bundle of the configuration; None where it has read nothing yet.

    Parameters
    ----------
    session : Session
        That may read.
    bundle : str
        Its name.
    before : dict, optional
        The `Count` of the last call, as plain data: only what is newer is counted.
    """
    latest = session.execute(
        select(Result.id, Result.bundle_sha256)
        .where(Result.bundle == bundle)
        .order_by(Result.id.desc())
        .limit(1)
    ).first()
    if latest is None:
        return None
    last_id, sha256 = latest
    of_bundle = (Result.bundle == bundle, Result.bundle_sha256 == sha256)
    if before is None or before["sha256"] != sha256:
        first_at = session.scalar(select(func.min(Result.created_at)).where(*of_bundle))
        before = {"first_at": float(first_at or 0), "images": 0, "unseen": 0, "last_id": 0}
    new, after = 0, before["last_id"]
    while after < last_id:
        rows = session.execute(
            select(Result.id, Result.reading)
            .where(*of_bundle, Result.id > after, Result.id <= last_id)
            .order_by(Result.id)
            .limit(_PART)
        ).all()
        if not rows:
            break
        new += sum(len(reading["images"]) for _, reading in rows)
        after = rows[-1][0]
    return Count(sha256, before["first_at"], before["images"] + new, before["unseen"] + new, last_id)


def read_window(session: Session, bundle: str, count: Count, settings: Drift) -> Window:
    """Read the first and the newest images of a bundle.

    Parameters
    ----------
    session : Session
        That may read.
    bundle : str
        Its name.
    count : Count
        From `count_images`.
    settings : Drift
        How many there are of each.
    """
    of_bundle = (Result.bundle == bundle, Result.bundle_sha256 == count.sha256, Result.id <= count.last_id)
    return Window(
        _take(session, of_bundle, settings.baseline, newest=False),
        _take(session, of_bundle, settings.window, newest=True),
    )


def _take(session: Session, conditions: tuple[Any, ...], most: int, newest: bool) -> list[Seen]:
    order = Result.id.desc() if newest else Result.id
    found: dict[tuple[str, int], Seen] = {}  # a later version of a study reads its images again
    offset = 0
    while len(found) < most:
        query = select(Result.reading).where(*conditions, Result.outcome != "refused")
        readings = session.scalars(query.order_by(order).offset(offset).limit(_PART)).all()
        if not readings:
            break
        for reading in readings:
            for image in reading["images"]:
                seen = _seen(image, reading["model"]["positive_class"])
                found.setdefault(seen.image, seen)
        offset += _PART
    return list(found.values())[:most]


def _seen(image: dict[str, Any], positive_class: str | None) -> Seen:
    return Seen(
        (image["sop_instance_uid"], image["frame"]),
        {str(name): float(value) for name, value in image["inputs"].items()},
        image["probabilities"].get(positive_class or image["decision"]),
        bool(image["positive"]),
        bool(image["warnings"]),
        image["spread"],
        image["distance"],
    )
