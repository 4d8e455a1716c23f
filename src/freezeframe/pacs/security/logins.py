"""Logins: sessions of the page with a cookie, and basic authentication of machine clients."""

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache

from sqlalchemy import delete
from sqlalchemy.orm import Session

from freezeframe.errors import FreezeframeError
from freezeframe.pacs.database import Database
from freezeframe.pacs.security import audit, passwords, slowing
from freezeframe.pacs.tables import Login, User

IDLE_SECONDS = 1800.0
"""After which an unused session ends (NIST SP 800-63B, section 4.2.3); it ends in any case after `session_hours`."""
_EXTEND_EVERY = 60.0
_REMEMBER_BASIC_SECONDS = 300.0
_MOST_REMEMBERED = 64


class LoginRefusedError(FreezeframeError):
    """Name and password don't fit; which of them is not said."""

    def __init__(self) -> None:
        super().__init__("User or password are not right.")


@dataclass(frozen=True)
class Opened:
    """A session that was just opened.

    Attributes
    ----------
    token : str
        Secret of the cookie; only its hash is in the database.
    csrf_token : str
        That each change must bring along.
    role : str
        Of the user.
    """

    token: str
    csrf_token: str
    role: str


@dataclass(frozen=True)
class Account:
    """Who asks.

    Attributes
    ----------
    user, role : str
        One of `passwords.ROLES`.
    csrf_token : str
        That each change must bring along.
    """

    user: str
    role: str
    csrf_token: str


def log_in(
    database: Database, user: str, password: str, address: str, lifetime_seconds: float, now: float
) -> Opened:
    """Check a password and open a session.

    Raises
    ------
    LoginRefusedError
        If name and password don't fit, or the user is disabled.
    TooManyAttemptsError
        If it must wait; the password was not looked at.
    """
    role = _check(database, user, password, address, now)
    opened = Opened(secrets.token_urlsafe(32), secrets.token_urlsafe(32), role)
    with database.transaction() as session:
        session.execute(delete(Login).where(Login.expires_at < now))
        session.add(
            Login(
                token_sha256=_sha256(opened.token),
                user=user,
                csrf_token=opened.csrf_token,
                created_at=now,
                expires_at=now + min(IDLE_SECONDS, lifetime_seconds),
            )
        )
        audit.record(session, user, audit.LOGIN, address, now=now)
    return opened


def find(
    database: Database, token: str, lifetime_seconds: float, now: float, used: bool = True
) -> Account | None:
    """Return whose session a cookie's secret opens, if it still does.

    Parameters
    ----------
    database : Database
        Of the node.
    token : str
        From the cookie.
    lifetime_seconds : float
        After which it ends although it is used.
    now : float
        Seconds since 1970.
    used : bool
        Whether a person asked, which keeps it from ending for want of use.
    """
    key = _sha256(token)
    with database.reading() as session:
        login = session.get(Login, key)
        user = None if login is None else session.get(User, login.user)
    if login is None or user is None or user.disabled:
        return None
    end = login.created_at + lifetime_seconds
    if now >= min(login.expires_at, end):
        return None
    extended = min(now + IDLE_SECONDS, end)
    if used and extended - login.expires_at > _EXTEND_EVERY:
        with database.transaction() as session:
            current = session.get(Login, key)
            if current is not None:  # it may have been logged out meanwhile
                current.expires_at = extended
    return Account(user.name, user.role, login.csrf_token)


def log_out(database: Database, token: str, now: float) -> None:
    """End a session; one that is unknown is ended already."""
    with database.transaction() as session:
        login = session.get(Login, _sha256(token))
        if login is not None:
            session.delete(login)
            audit.record(session, login.user, audit.LOGOUT, now=now)


class BasicLogins:
    """Basic authentication (RFC 7617), which sends the password with every request.

    An argon2 hash for each of a stream of images would cost more than keeping them, so that a password that was right
    counts for five minutes; it is remembered as a keyed hash. A change of the password counts at once.

    Parameters
    ----------
    database : Database
        Of the node.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        # A sender's first images come on several connections at once: one checks the password, the others wait for it
        # instead of counting as that many attempts. Names share the locks, so that made-up names take no memory.
        self._checking = tuple(threading.Lock() for _ in range(16))

    def role(self, user: str, password: str, address: str, now: float) -> str:
        """Return the user's role.

        Raises
        ------
        LoginRefusedError, TooManyAttemptsError
            As of `log_in`.
        """
        with self._checking[hash(user) % len(self._checking)]:
            with self.database.reading() as session:
                known = _known(session, user)
            mark = b""
            if known is not None and not known.disabled:
                parts = "\0".join((user, known.password_hash, password)).encode(errors="replace")
                mark = hmac.digest(self._key, parts, "sha256")
                with self._lock:
                    if now < self._remembered.get(mark, 0.0):
                        return known.role
            role = _check(self.database, user, password, address, now)
            with self._lock:
                self._remembered[mark] = now + _REMEMBER_BASIC_SECONDS
                while len(self._remembered) > _MOST_REMEMBERED:
                    self._remembered.popitem(last=False)
            return role


def _check(database: Database, user: str, password: str, address: str, now: float) -> str:
    nobody = _nobody()
    with database.transaction() as session:
        slowing.begin_attempt(session, user, address, now)
        known = _known(session, user)
    # An unknown name takes as long as a known one.
    right = passwords.matches(password, known.password_hash if known is not None else nobody)
    if known is None or not right or known.disabled:
        with database.transaction() as session:
            who = known.name if known is not None else "unknown"
            audit.record(session, who, audit.LOGIN_FAILED, address, audit.FAILURE, now=now)
        raise LoginRefusedError
    renewed = passwords.hash_password(password) if passwords.is_outdated(known.password_hash) else None
    with database.transaction() as session:
        slowing.succeeded(session, user, address, now)
        current = session.get(User, known.name)
        if current is None or current.disabled or current.password_hash != known.password_hash:
            raise LoginRefusedError
        if renewed is not None:
            current.password_hash = renewed
    return known.role


def _known(session: Session, user: str) -> User | None:
    if len(user) > 64 or not user.isprintable():
        return None
    return session.get(User, user)


@cache
def _nobody() -> str:
    return passwords.hash_password(secrets.token_hex(16))


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
