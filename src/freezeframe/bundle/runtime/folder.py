"""Opening a bundle: nothing of it is used before all of it was checked."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors

from freezeframe.bundle.runtime.contents import CONTENTS, Contents, parse
from freezeframe.bundle.runtime.seal import (
    CHECKSUMS,
    SIGNATURE,
    hash_files,
    read_checksums,
    write_archive,
)
from freezeframe.bundle.runtime.signature import check_signature, sign_checksums
from freezeframe.bundle.runtime.storage import Folder, Storage, open_storage
from freezeframe.bundle.runtime.wire import check_onnx
from freezeframe.errors import UserError
from freezeframe.files import write_bytes

LARGEST_TEXT = 16 << 20
"""Bytes of bundle.json, the checksums and the signature, which are read whole."""
_SHOWN = 5


@dataclass(frozen=True)
class Bundle:
    """A bundle that was checked when it was opened.

    Attributes
    ----------
    path : Path
        The folder or the ``.ffb`` file.
    contents : Contents
        What it says of itself.
    sha256 : str
        Of ``checksums.txt``, and so of all of it: the bundle's identity.
    signed : bool
        Whether a signature was checked with a public key; False where none was given, whatever the bundle carries.
    checksums : mapping of str to str
        SHA-256 of each file but the checksums and the signature, by name.
    """

    path: Path
    contents: Contents
    sha256: str
    signed: bool
    checksums: Mapping[str, str] = field(repr=False)
    _storage: Storage = field(repr=False)

    @property
    def carries_signature(self) -> bool:
        """Whether there is a signature, checked or not."""
        return SIGNATURE in self._storage.sizes

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file, by name."""
        return self._storage.sizes

    def read(self, name: str) -> bytes:
        """Return a file's bytes, checked against its checksum once more.

        Raises
        ------
        UserError
            If the bundle has no such file, or it was changed since the bundle was opened.
        """
        if name not in self.checksums:
            raise UserError(
                f"{self.path} has no file {name}.",
                f"one of {_names(list(self.checksums))}.",
                "Check the name.",
            )
        return _read_unchanged(self._storage, name, self.checksums)


def open_bundle(path: Path, public_key: str | Path | None = None) -> Bundle:
    """Open a bundle and check all of it: sizes, names, links, checksums, signature, description, graphs.

    Parameters
    ----------
    path : Path
        Its folder, or one ``.ffb`` file.
    public_key : str or Path, optional
        A minisign key or its file: an unsigned bundle, or one that somebody else signed, is refused.

    Raises
    ------
    UserError
        If there is no bundle, or anything is missing, changed, too much or not as it should be.

    Notes
    -----
    Nothing in a bundle is ever unpickled or run; graphs may not refer to other files (`wire.check_onnx`).
    """
    storage = open_storage(Path(path))
    if CHECKSUMS not in storage.sizes:
        raise UserError(
            f"{path} has no {CHECKSUMS}.",
            "a bundle: a folder or .ffb file that `freezeframe export` wrote.",
            "Check the path, or export the ensemble again.",
        )
    sealed = _read(storage, CHECKSUMS, LARGEST_TEXT)
    signed = public_key is not None
    if public_key is not None:
        if SIGNATURE not in storage.sizes:
            raise UserError(
                f"{path} is not signed.",
                f"the signature of the key {public_key}.",
                "Ask its maker to sign it with `freezeframe bundle sign`.",
            )
        check_signature(sealed, _read(storage, SIGNATURE, LARGEST_TEXT), public_key, str(path))
    checksums = read_checksums(sealed, f"{path}: {CHECKSUMS}")
    _check_files(storage, checksums)
    if CONTENTS not in checksums:
        raise UserError(f"{path} has no {CONTENTS}.", "a bundle's description.", "Export the ensemble again.")
    described = _read_unchanged(storage, CONTENTS, checksums, LARGEST_TEXT)
    contents = parse(_json(described, f"{path}: {CONTENTS}"), f"{path}: {CONTENTS}")
    bundle = Bundle(
        storage.path, contents, hashlib.sha256(sealed).hexdigest(), signed, checksums, _storage=storage
    )
    _check_named(bundle)
    for name in checksums:
        if name.endswith(".onnx"):
            check_onnx(bundle.read(name), f"{path}: {name}")
        elif name.endswith(".safetensors"):
            _check_tensors(bundle.read(name), f"{path}: {name}")
    return bundle


def sign(path: Path, secret_key: Path, password: str = "") -> Bundle:
    """Sign a bundle, a folder or an ``.ffb`` file; an older signature is replaced.

    Parameters
    ----------
    path : Path
        The bundle, which is opened and checked first.
    secret_key : Path
        A minisign key's file.
    password : str
        Of the key, where it has one.

    Raises
    ------
    UserError
        If the bundle is refused, or nothing can be signed with the key.
    """
    bundle = open_bundle(path)
    checksums = _read(bundle._storage, CHECKSUMS, LARGEST_TEXT)
    signature = sign_checksums(checksums, bundle.contents.name, secret_key, password)
    if isinstance(bundle._storage, Folder):
        write_bytes(bundle.path / SIGNATURE, signature)
    else:
        write_archive(bundle._storage, {SIGNATURE: signature}, bundle.path)
    return open_bundle(path)


def _check_files(storage: Storage, checksums: Mapping[str, str]) -> None:
    here = set(storage.sizes) - {CHECKSUMS, SIGNATURE}
    missing, extra = sorted(set(checksums) - here), sorted(here - set(checksums))
    same = [name for name in checksums if name in here]
    found = hash_files(storage, same, "Checking the bundle")
    changed = [name for name in same if found[name] != checksums[name]]
    problems = [
        f"{_names(names)} {'is' if len(names) == 1 else 'are'} {state}"
        for names, state in ((missing, "missing"), (changed, "changed"), (extra, f"not in {CHECKSUMS}"))
        if names
    ]
    if problems:
        raise UserError(
            f"{storage.path} is not as it was made: {'; '.join(problems)}.",
            f"exactly the files of {CHECKSUMS}, unchanged.",
            "Copy it again from where it came, or export it again.",
        )


def _check_named(bundle: Bundle) -> None:
    for member in bundle.contents.members:
        for name, kinds in (
            (member.graph, (".onnx",)),
            (member.heat, (".safetensors", ".onnx")),
            (member.reference, (".safetensors",)),
        ):
            if name is None:
                continue
            if name not in bundle.checksums:
                raise UserError(
                    f"{bundle.path}: {CONTENTS} names {name} of the member {member.name}, which is not there.",
                    "each file that it names.",
                    "Export the ensemble again.",
                )
            if not name.endswith(kinds):
                raise UserError(
                    f"{bundle.path}: {CONTENTS} names {name} of the member {member.name}.",
                    f"a file {' or '.join(kinds)}.",
                    "Export the ensemble again.",
                )


def _check_tensors(content: bytes, origin: str) -> None:
    try:
        safetensors.deserialize(content)
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(
            f"{origin} can't be read as safetensors: {error}.",
            "a file that was written whole.",
            "Export it again.",
        ) from error


def _json(content: bytes, origin: str) -> Any:
    def finite(text: str) -> float:
        if not math.isfinite(number := float(text)):
            raise ValueError(f"{text} is no finite number")
        return number

    try:
        return json.loads(content.decode("utf-8"), parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{origin} can't be read as JSON: {error}.", "a bundle's description.", "Export it again."
        ) from error


def _read(storage: Storage, name: str, largest: int | None = None) -> bytes:
    if largest is not None and storage.sizes[name] > largest:
        raise UserError(
            f"{storage.path}: {name} has {storage.sizes[name]:,} bytes.",
            f"at most {largest:,}.",
            "Ask whoever made the bundle.",
        )
    with storage.opened() as chunks:
        return b"".join(chunks(name))


def _read_unchanged(
    storage: Storage, name: str, checksums: Mapping[str, str], largest: int | None = None
) -> bytes:
    content = _read(storage, name, largest)
    if hashlib.sha256(content).hexdigest() != checksums[name]:
        raise UserError(
            f"{storage.path}: {name} was changed while the bundle was in use.",
            "a bundle that stays as it is.",
            "Copy it again from where it came, and start again.",
        )
    return content


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
