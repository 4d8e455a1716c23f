"""The secret that pseudonyms are made with: the same patient gets the same one in every export, and only here."""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from freezeframe import files
from freezeframe.errors import UserError

BYTES = 32
MOST_DAYS = 3650
"""That a patient's dates are moved back, at most; at least one."""


@dataclass(frozen=True)
class Pseudonyms:
    """What stands for a patient, a site, a UID, and how far dates are moved (HMAC-SHA-256, RFC 2104).

    Parameters
    ----------
    salt : bytes
        Secret. Whoever has it can check whether a known patient is in an export.
    """

    salt: bytes = field(repr=False)

    def _digest(self, *parts: str) -> bytes:
        return hmac.digest(self.salt, "\0".join(parts).encode(), hashlib.sha256)

    def patient(self, identity: str) -> str:
        """Return what stands for a patient: ``P-`` and 16 hexadecimal digits."""
        return f"P-{self._digest('patient', identity).hex()[:16]}"

    def site(self, name: str) -> str:
        """Return what stands for an institution; '' for ''."""
        return f"S-{self._digest('site', name.strip().casefold()).hex()[:8]}" if name.strip() else ""

    def uid(self, uid: str) -> str:
        """Return another UID, always the same one for the same (PS3.5, section B.2)."""
        digest = bytearray(self._digest("uid", uid)[:16])
        digest[6], digest[8] = (
            digest[6] & 0x0F | 0x80,
            digest[8] & 0x3F | 0x80,
        )  # a UUID of version 8, RFC 9562
        return f"2.25.{int.from_bytes(digest)}"

    def days(self, identity: str) -> int:
        """Return how many days a patient's dates are moved back, so that the time between them stays."""
        return 1 + int.from_bytes(self._digest("days", identity)[:8]) % MOST_DAYS


def read_salt(path: Path) -> Pseudonyms:
    """Read the secret, or make it where it is missing: a file that only its owner may read.

    Raises
    ------
    UserError
        If others may read it, or it is no such file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return Pseudonyms(_read(path))
    except OSError as error:
        raise UserError(
            f"{path} can't be made ({error.strerror}).", "a place for the secret of the pseudonyms."
        ) from error
    with os.fdopen(descriptor, "w") as handle:
        handle.write(secrets.token_hex(BYTES) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    files.sync_folder(path.parent)
    return Pseudonyms(_read(path))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_mode & 0o077:
            raise UserError(
                f"Others may read {path}, the secret of the pseudonyms.",
                "a file of its owner.",
                f"chmod 600 {path}",
            )
        salt = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} can't be read as the secret of the pseudonyms.", f"{2 * BYTES} hexadecimal digits."
        ) from error
    if len(salt) != BYTES:
        raise UserError(f"{path} holds {len(salt)} bytes.", f"{BYTES}, in hexadecimal.", "Name another file.")
    return salt
