"""Signatures over a bundle's checksums in minisign's format (Ed25519; jedisct1.github.io/minisign).

Keys and signatures are those of the minisign program, which can make and check them too:
``minisign -Vm checksums.txt -p bundle.pub``.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freezeframe import files
from freezeframe.errors import UserError

if TYPE_CHECKING:
    from minisign import PublicKey

SECRET_KEY, PUBLIC_KEY = "bundle.key", "bundle.pub"
_LONGEST_KEY_FILE = 8192  # bytes; minisign's own have some 300


def make_keys(folder: Path, password: str = "") -> tuple[Path, Path]:
    """Make a key pair.

    Parameters
    ----------
    folder : Path
        Where ``bundle.key`` and ``bundle.pub`` go; it is made where it is missing.
    password : str
        Encrypts the secret key (scrypt); none where empty.

    Returns
    -------
    (Path, Path)
        The secret key, which only its owner may read (mode 600), and the public key.

    Raises
    ------
    UserError
        If there are keys already, or the folder can't be written.
    """
    from_minisign = _minisign()
    folder = Path(folder)
    paths = folder / SECRET_KEY, folder / PUBLIC_KEY
    for path in paths:
        if path.exists():
            raise _there_already(path)
    pair = from_minisign.KeyPair.generate()
    public = bytes(pair.public_key) + b"\n"
    with pair.secret_key as secret:
        if password:
            secret.encrypt(password)
        _write_secret(paths[0], bytes(secret) + b"\n")
    files.write_bytes(paths[1], public)
    return paths


def _write_secret(path: Path, content: bytes) -> None:
    # A link in place of a rename never replaces a key that somebody else made meanwhile.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 600
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(descriptor)
            os.link(name, path)
        finally:
            Path(name).unlink()
        files.sync_folder(path.parent)
    except FileExistsError as error:
        raise _there_already(path) from error
    except OSError as error:
        raise UserError(
            f"{path} can't be written ({error.strerror}).",
            "a folder that you may write to.",
            "Choose another folder.",
        ) from error


def _there_already(path: Path) -> UserError:
    return UserError(
        f"{path} is there already.",
        "a folder without keys, because what an old key signed can't be signed again without it.",
        "Choose another folder, or move the old keys away.",
    )


def sign_checksums(checksums: bytes, name: str, secret_key: Path, password: str = "") -> bytes:
    """Sign a bundle's checksums.

    Parameters
    ----------
    checksums : bytes
        Content of ``checksums.txt``.
    name : str
        The bundle's; it stands, with the SHA-256 of the checksums, in the signature's trusted comment.
    secret_key : Path
        As `make_keys` or minisign wrote it.
    password : str
        Of the key, where it has one.

    Returns
    -------
    bytes
        Content of ``checksums.txt.minisig``.

    Raises
    ------
    UserError
        If the key can't be read, or the password is wrong.
    """
    from_minisign = _minisign()
    content = _read_key_file(Path(secret_key))
    try:
        with from_minisign.SecretKey.from_bytes(content) as secret:
            if secret.is_encrypted():
                if not password:
                    raise UserError(
                        f"The secret key {secret_key} has a password.",
                        "the password.",
                        "Type it when asked, or set FREEZEFRAME_KEY_PASSWORD.",
                    )
                secret.decrypt(password)
            # Minisign's comments are plain ASCII.
            shown = name.encode("ascii", "replace").decode()
            comment = f"freezeframe bundle {shown} sha256:{hashlib.sha256(checksums).hexdigest()}"
            signature = secret.sign(checksums, trusted_comment=comment)
            return bytes(signature) + b"\n"
    except from_minisign.Error as error:
        raise _no_secret_key(secret_key, error) from error


def has_password(secret_key: Path) -> bool:
    """Return whether a secret key is encrypted.

    Raises
    ------
    UserError
        If the key can't be read.
    """
    from_minisign = _minisign()
    content = _read_key_file(Path(secret_key))
    try:
        with from_minisign.SecretKey.from_bytes(content) as secret:
            return secret.is_encrypted()
    except from_minisign.Error as error:
        raise _no_secret_key(secret_key, error) from error


def _no_secret_key(path: Path, error: Exception) -> UserError:
    return UserError(
        f"Nothing can be signed with {path}: {error}.",
        "a secret key of `freezeframe bundle keys` or of minisign, and its password.",
        "Check both.",
    )


def check_signature(checksums: bytes, signature: bytes, public_key: str | Path, origin: str) -> None:
    """Check that the holder of a key signed these checksums.

    Parameters
    ----------
    checksums, signature : bytes
        Contents of ``checksums.txt`` and ``checksums.txt.minisig``.
    public_key : str or Path
        The key itself (56 characters, starting with RW), or its file.
    origin : str
        Name of the bundle, for messages.

    Raises
    ------
    UserError
        If they did not, or the key or the signature can't be read.
    """
    from_minisign = _minisign()
    key = _public_key(public_key)
    try:
        key.verify(checksums, from_minisign.Signature.from_bytes(signature))
    except from_minisign.ParseError as error:
        raise UserError(
            f"The signature of {origin} can't be read: {error}.",
            "one in minisign's format.",
            "Ask the bundle's maker for it.",
        ) from error
    except from_minisign.VerifyError as error:
        other = "identifiers" in str(error)
        raise UserError(
            f"{origin} is signed with another key."
            if other
            else f"The signature of {origin} does not belong to it.",
            f"the signature of the key {public_key}.",
            "Do not use the bundle before its maker has explained this.",
        ) from error


def _public_key(public_key: str | Path) -> "PublicKey":
    from_minisign = _minisign()
    text = str(public_key)
    try:
        if len(text) == 56 and text.startswith("RW") and not Path(text).exists():
            return from_minisign.PublicKey.from_base64(text)
        return from_minisign.PublicKey.from_bytes(_read_key_file(Path(public_key)))
    except from_minisign.Error as error:
        raise UserError(
            f"{public_key} is no public key: {error}.",
            "a key of `freezeframe bundle keys` or of minisign, or its file.",
            "Take the .pub file, not the secret key.",
        ) from error


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(_LONGEST_KEY_FILE)
    except OSError as error:
        raise UserError(
            f"The key {path} can't be read ({error.strerror}).", "a key's file.", "Check the path."
        ) from error


def _minisign() -> Any:
    # A bundle without a signature is opened without the package as well.
    try:
        import minisign
    except ModuleNotFoundError as error:
        raise UserError(
            "The package py-minisign, which checks and makes signatures, is not installed.",
            action="pip install 'freezeframe[node]'",
        ) from error
    return minisign
