"""Sealing a bundle: checksums of all files, which are its identity, a signature over them, and one file of it all."""

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from freezeframe import files
from freezeframe.bundle.runtime.storage import Folder, Storage, open_storage
from freezeframe.errors import UserError
from freezeframe.progress import progress

CHECKSUMS = "checksums.txt"
SIGNATURE = "checksums.txt.minisig"
STORED = (".onnx", ".safetensors", ".parquet")
"""Kept as they are in the zip: weights and packed tables hardly deflate."""
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip can say

_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")


def seal(folder: Path) -> str:
    """Write the checksums of all files of a bundle's folder; a signature of other checksums is removed.

    Returns
    -------
    str
        SHA-256 of ``checksums.txt``: the bundle's identity.

    Raises
    ------
    UserError
        If the folder holds what no bundle may hold, or can't be written.
    """
    folder = Path(folder)
    storage = _folder(folder)
    names = [name for name in storage.sizes if name not in (CHECKSUMS, SIGNATURE)]
    hashes = hash_files(storage, names, "Hashing the bundle")
    text = write_checksums(hashes)
    identity = hashlib.sha256(text.encode()).hexdigest()
    if CHECKSUMS in storage.sizes and files.sha256_file(folder / CHECKSUMS) == identity:
        return identity
    (folder / SIGNATURE).unlink(missing_ok=True)
    files.write_text(folder / CHECKSUMS, text)
    return identity


def hash_files(storage: Storage, names: list[str], what: str) -> dict[str, str]:
    """Return the SHA-256 of files, in hexadecimal, by name."""
    hashes = {}
    with progress(what, len(names), "files") as advance, storage.opened() as chunks:
        for name in names:
            digest = hashlib.sha256()
            for chunk in chunks(name):
                digest.update(chunk)
            hashes[name] = digest.hexdigest()
            advance(1)
    return hashes


def write_checksums(hashes: Mapping[str, str]) -> str:
    """Write checksums as ``sha256sum`` does, sorted by name.

    Examples
    --------
    >>> write_checksums({"b": "1" * 64, "a": "0" * 64}).splitlines()[0] == "0" * 64 + "  a"
    True
    """
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))


def read_checksums(content: bytes, origin: str) -> dict[str, str]:
    """Read what `write_checksums` wrote, and nothing else, so that one content has one identity.

    Raises
    ------
    UserError
        If a line is no checksum, or they are not written as `seal` writes them.
    """
    text = content.decode("ascii", "replace")
    hashes = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise UserError(
                f"{origin} holds the line {line[:120]!r}.",
                "a SHA-256, two blanks and a file's name.",
                "Copy the bundle again, or seal it again.",
            )
        hashes[match[2]] = match[1]
    if write_checksums(hashes).encode() != content:
        raise UserError(
            f"{origin} is not in its own order, or names a file twice.",
            "a line for each file, sorted by name.",
            "Copy the bundle again, or seal it again.",
        )
    return hashes


def pack(folder: Path, out: Path) -> Path:
    """Write a bundle's folder as one zip, ``NAME.ffb``; the same files give the same bytes.

    Parameters
    ----------
    folder : Path
        Of a sealed bundle.
    out : Path
        The file; what was there is replaced.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UserError
        If there is no folder, it is not sealed, or the file can't be written.
    """
    storage = _folder(Path(folder))
    if CHECKSUMS not in storage.sizes:
        raise UserError(f"{folder} has no {CHECKSUMS}.", "a bundle.", "Export the ensemble again.")
    if Path(out).resolve().is_relative_to(storage.path.resolve()):
        raise UserError(f"{out} is inside the bundle.", "a file elsewhere.", "Choose another --out.")
    return write_archive(storage, {}, Path(out))


def write_archive(storage: Storage, instead: Mapping[str, bytes], out: Path) -> Path:
    """Write a zip of a bundle's files, of which some are replaced or added."""
    names = sorted({*storage.sizes, *instead})
    with (
        files.atomic(out) as temporary,
        progress("Packing the bundle", len(names), "files") as advance,
        storage.opened() as chunks,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        for name in names:
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.create_system = 3  # Unix, also where it is written elsewhere
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(STORED) else zipfile.ZIP_DEFLATED
            content: Iterator[bytes] = iter([instead[name]]) if name in instead else chunks(name)
            entry.file_size = len(instead[name]) if name in instead else storage.sizes[name]
            with archive.open(entry, "w") as handle:
                for chunk in content:
                    handle.write(chunk)
            advance(1)
    return out


def unpack(path: Path, folder: Path) -> Path:
    """Write the files of a bundle's zip into a folder of its own, which appears whole or not at all.

    Names and sizes are checked as everywhere; checksums are not: `open_bundle` does that.

    Parameters
    ----------
    path : Path
        ``NAME.ffb``.
    folder : Path
        Not there yet, or empty.

    Raises
    ------
    UserError
        If it is no such zip, the folder holds something, or can't be written.
    """
    path, folder = Path(path), Path(folder)
    storage = open_storage(path)
    if not storage.sizes:
        raise UserError(f"{path} is empty.", "a bundle.", "Copy it again from where it came.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} holds something.", "a new or an empty folder.", "Choose another.")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        with (
            progress("Unpacking the bundle", len(storage.sizes), "files") as advance,
            storage.opened() as chunks,
        ):
            for name in storage.sizes:
                with files.atomic(temporary / name) as partial, partial.open("wb") as handle:
                    for chunk in chunks(name):
                        handle.write(chunk)
                advance(1)
        temporary.replace(folder)
        files.sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _folder(path: Path) -> Folder:
    storage = open_storage(path)
    if not isinstance(storage, Folder):
        raise UserError(f"{path} is a file.", "a bundle's folder.", "Unpack it: freezeframe bundle unpack.")
    return storage
