"""The node's own users and their passwords (argon2id; rules of NIST SP 800-63B, section 5.1.1.2)."""

import re
import threading
import time
import unicodedata
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from freezeframe.errors import UserError, did_you_mean
from freezeframe.pacs.database import Database
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import Login, User

ROLES = {
    "viewer": "sees studies, images and results",
    "reader": "also gives feedback",
    "admin": "also has studies read again, retries deliveries and reads the audit trail",
    "sender": "only sends images by STOW-RS",
}
LEAST_CHARACTERS, MOST_CHARACTERS = 12, 1024
COMMAND_LINE = "command line"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_COMMON = {
    "admin", "administrator", "changeme", "freezeframe", "hospital", "iloveyou", "letmein", "password", "passwort",
    "contraseña", "orthanc", "qwerty", "qwertyuiop", "radiology", "radiologia", "secret", "welcome",
}  # fmt: skip
_ROWS = ("0123456789" * 4, "9876543210" * 4, "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm")

# The second recommended option of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes.
_HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
# Each computation takes 64 MiB: many logins at once wait for each other instead of exhausting the machine.
_AT_ONCE = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class UserSummary:
    """A user as others may see them."""

    name: str
    role: str
    disabled: bool
    created_at: float


def add_user(
    database: Database,
    name: str,
    role: str,
    password: str,
    by: str = COMMAND_LINE,
    now: float | None = None,
) -> None:
    """Let somebody log in.

    Parameters
    ----------
    database : Database
        Of the node.
    name : str
        1 to 64 letters, digits and ``. _ @ -``.
    role : str
        One of `ROLES`.
    password : str
        See `check_password`.
    by : str
        Who does this, for the audit trail.
    now : float, optional
        Seconds since 1970.

    Raises
    ------
    UserError
        If the name is taken or is none, there is no such role, or the password is too easy.
    """
    if not _NAME.fullmatch(name):
        raise UserError("This can't be a user's name.", "1 to 64 letters, digits and . _ @ -")
    if role not in ROLES:
        raise UserError(f"There is no role '{role}'.", did_you_mean(role, ROLES))
    check_password(name, password)
    hashed = hash_password(password)
    moment = time.time() if now is None else now
    with database.transaction() as session:
        if session.get(User, name) is not None:
            raise UserError(
                f"There is a user {name} already.",
                "a new name.",
                "Choose another name, or change this user's password.",
            )
        session.add(User(name=name, role=role, password_hash=hashed, created_at=moment))
        audit.record(session, by, audit.USERS_CHANGED, name, detail=f"added as {role}", now=moment)


def change_password(
    database: Database, name: str, password: str, by: str = COMMAND_LINE, now: float | None = None
) -> None:
    """Give a user another password, and end their sessions.

    Raises
    ------
    UserError
        If there is no such user, or the password is too easy.
    """
    check_password(name, password)
    hashed = hash_password(password)
    with database.transaction() as session:
        _existing(session, name).password_hash = hashed
        session.execute(delete(Login).where(Login.user == name))
        audit.record(session, by, audit.USERS_CHANGED, name, detail="new password", now=now)


def disable(database: Database, name: str, by: str = COMMAND_LINE, now: float | None = None) -> None:
    """Let a user log in no more, and end their sessions; what they did stays under their name.

    Raises
    ------
    UserError
        If there is no such user.
    """
    with database.transaction() as session:
        _existing(session, name).disabled = True
        session.execute(delete(Login).where(Login.user == name))
        audit.record(session, by, audit.USERS_CHANGED, name, detail="disabled", now=now)


def enable(database: Database, name: str, by: str = COMMAND_LINE, now: float | None = None) -> None:
    """Let a disabled user log in again.

    Raises
    ------
    UserError
        If there is no such user.
    """
    with database.transaction() as session:
        _existing(session, name).disabled = False
        audit.record(session, by, audit.USERS_CHANGED, name, detail="enabled", now=now)


def users(database: Database) -> list[UserSummary]:
    """Return all users, by name."""
    with database.reading() as session:
        found = session.scalars(select(User).order_by(User.name)).all()
    return [UserSummary(user.name, user.role, user.disabled, user.created_at) for user in found]


def check_password(name: str, password: str) -> None:
    """Refuse a password that is short, common, or made of the user's name; which characters it has is free.

    Raises
    ------
    UserError
        With what is wrong with it, without the password.
    """
    plain = _normal(password)
    if not LEAST_CHARACTERS <= len(plain) <= MOST_CHARACTERS:
        raise UserError(
            f"The password has {len(plain)} characters.",
            f"{LEAST_CHARACTERS} to {MOST_CHARACTERS}.",
            "Take several words.",
        )
    lower = plain.casefold()
    letters = re.sub(r"[\W\d_]+", "", lower)
    halves_are_equal = lower[: len(lower) // 2] == lower[len(lower) // 2 :]
    if (
        letters in _COMMON
        or len(set(lower)) < 5
        or any(lower in row for row in _ROWS)
        or (halves_are_equal and lower[: len(lower) // 2] in _COMMON)
    ):
        raise UserError(
            "The password is one of those that are tried first.", "another one.", "Take several words."
        )
    if len(name) >= 3 and name.casefold() in lower:
        raise UserError("The password has the user's name in it.", "one that can't be guessed from the name.")


def hash_password(password: str) -> str:
    """Compute the salted argon2id hash that is stored."""
    with _AT_ONCE:
        return _HASHER.hash(_normal(password))


def matches(password: str, password_hash: str) -> bool:
    """Tell whether a password is the one that was hashed; takes the same time if not."""
    if len(password) > MOST_CHARACTERS:
        return False
    try:
        with _AT_ONCE:
            return _HASHER.verify(password_hash, _normal(password))
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(password_hash: str) -> bool:
    """Tell whether a hash was made with other parameters than are used today."""
    return _HASHER.check_needs_rehash(password_hash)


def _existing(session: Session, name: str) -> User:
    user = session.get(User, name)
    if user is None:
        known = session.scalars(select(User.name).order_by(User.name)).all()
        raise UserError(f"There is no user {name}.", did_you_mean(name, known) if known else "a user's name.")
    return user


def _normal(password: str) -> str:
    # The same characters may come composed or decomposed, depending on the keyboard (NIST SP 800-63B, 5.1.1.2).
    # Lone surrogates, which JSON can carry, have no UTF-8.
    return unicodedata.normalize("NFKC", password).encode(errors="replace").decode()
