"""Passwords can't be tried at will: each failure makes the next attempt wait, by user's name and by address.

Where somebody has logged in before, only the failures from there count against them: whoever knows a name can't keep
its owner out from elsewhere.
"""

import hashlib
import ipaddress
import math
from dataclasses import dataclass

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from freezeframe.errors import FreezeframeError
from freezeframe.pacs.tables import LoginFailure, LoginPlace, User

REMEMBERED_SECONDS = 24 * 3600.0
PLACE_SECONDS = 90 * 24 * 3600.0
"""After which an address that a user logged in from is forgotten, if they did not again."""
MOST_PLACES = 20
"""That are remembered of a user; the oldest goes first."""
_LOCK = 7366732


@dataclass(frozen=True)
class Growth:
    """How the wait after a failure grows: not for the `free` first, then from 1 s on twofold each time to `longest`."""

    free: int
    longest: float

    def wait(self, failures: int) -> float:
        """Return the seconds that must pass after the last of some failures."""
        if failures < self.free:
            return 0.0
        return float(min(2.0 ** min(failures - self.free, 30), self.longest))


BY_USER = Growth(free=5, longest=300)
"""Shorter, since anybody can keep a name waiting whose owner then waits as well, at an address that is new."""
BY_ADDRESS = Growth(free=20, longest=900)
"""Later, since many people may share an address."""


class TooManyAttemptsError(FreezeframeError):
    """An attempt came too soon after failed ones; the password was not looked at.

    Parameters
    ----------
    seconds : float
        Until the next attempt is looked at.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(f"Too many failed logins. Try again in {self.seconds} s.")


def begin_attempt(session: Session, user: str, address: str, now: float) -> None:
    """Count an attempt as failed before its password is looked at, so that many at once gain nothing.

    Raises
    ------
    TooManyAttemptsError
        If it must wait.
    """
    _lock(session)
    session.execute(delete(LoginFailure).where(LoginFailure.at < now - REMEMBERED_SECONDS))
    key, place = _key(session, user), _place(address)
    been = session.get(LoginPlace, (key, place))
    of_name = [LoginFailure.user == key]
    if been is not None and been.at >= now - PLACE_SECONDS:
        of_name.append(LoginFailure.address == place)
    for conditions, growth in ((of_name, BY_USER), ([LoginFailure.address == place], BY_ADDRESS)):
        count, last = session.execute(
            select(func.count(), func.max(LoginFailure.at)).where(*conditions)
        ).one()
        remaining = (last or 0.0) + growth.wait(count) - now
        if remaining > 0 and count >= growth.free:
            raise TooManyAttemptsError(remaining)
    session.add(LoginFailure(user=key, address=place, at=now))


def succeeded(session: Session, user: str, address: str, now: float) -> None:
    """Remember where a user logged in, and forget the name's failures from there; what others did counts on."""
    _lock(session)
    place = _place(address)
    session.execute(delete(LoginFailure).where(LoginFailure.user == user, LoginFailure.address == place))
    session.merge(LoginPlace(user=user, address=place, at=now))
    session.flush()
    newest = select(LoginPlace).where(LoginPlace.user == user).order_by(LoginPlace.at.desc())
    for number, known in enumerate(session.scalars(newest).all()):
        if number >= MOST_PLACES or known.at < now - PLACE_SECONDS:
            session.delete(known)


def _lock(session: Session) -> None:
    """On PostgreSQL one attempt after the other, as on SQLite."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _key(session: Session, user: str) -> str:
    # People type their password into the field of the name: an unknown name is not kept as it was typed.
    if len(user) <= 64 and user.isprintable() and session.get(User, user) is not None:
        return user
    return "?" + hashlib.sha256(user.encode(errors="replace")).hexdigest()[:32]


def _place(address: str) -> str:
    """Return what counts as one address: of IPv6 the first half, since whoever has one has all that begin with it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
