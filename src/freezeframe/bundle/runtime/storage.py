"""The files of a bundle, in a folder or in one zip: names and sizes are checked before anything is read.

A bundle comes from elsewhere. Whatever its maker wrote into names, sizes and links, reading it opens no file outside it
and costs no more than the limits below.
"""

import contextlib
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from freezeframe.errors import UserError

LARGEST_FILE = 4 << 30
LARGEST_BUNDLE = 16 << 30
MOST_FILES = 10_000
LARGEST_DIRECTORY = 8 << 20
"""Of a zip, which is read whole: some 800 bytes for each of the most files."""
BEST_COMPRESSION = 200
"""Text of a bundle deflates to a tenth at best, weights hardly at all; deflate itself reaches 1,030."""
PLAIN_SIZE = 1 << 20
"""Bytes up to which compression is not looked at."""
CHUNK = 1 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,7}")
_BROKEN_ZIP = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError,
    OverflowError,
)  # fmt: skip


class Storage(Protocol):
    """Where a bundle's files are."""

    @property
    def path(self) -> Path:
        """The folder or the zip."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file, by its name inside the bundle with ``/`` between folders, sorted."""
        ...

    def opened(self) -> contextlib.AbstractContextManager[Callable[[str], Iterator[bytes]]]:
        """Give, while the block runs, what yields a file's bytes by its name: exactly as many as its size says."""
        ...


def open_storage(path: Path) -> Storage:
    """Look at a folder or a zip; no file in it is read.

    Raises
    ------
    UserError
        If there is none, a name or size is not allowed, or something in it is not a plain file.
    """
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Archive(path)
    raise UserError(f"There is no bundle {path}.", "a folder or a file NAME.ffb.", "Check the path.")


class Folder:
    """A bundle as a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path):
            self.sizes: dict[str, int] = dict(sorted(self._walk(path, "")))
        _check_limits(path, self.sizes)

    def _walk(self, folder: Path, inside: str, found: int = 0) -> Iterator[tuple[str, int]]:
        with os.scandir(folder) as entries:
            for entry in entries:
                found += 1
                if found > MOST_FILES:
                    raise _too_many(self.path)
                name = inside + entry.name
                _check_name(self.path, name)
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    yield from self._walk(Path(entry.path), name + "/")
                elif stat.S_ISREG(status.st_mode):
                    yield name, status.st_size
                else:
                    raise UserError(
                        f"{self.path}: {name} is {'a link' if entry.is_symlink() else 'no plain file'}.",
                        "plain files and folders only.",
                        "Put the file itself there.",
                    )

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[str], Iterator[bytes]]]:
        """Give what yields a file's bytes."""
        yield self._chunks

    def _chunks(self, name: str) -> Iterator[bytes]:
        left = self.sizes[name]
        with _reading(self.path / name):
            # It may have become a link, or a pipe that never ends, since the folder was looked at.
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb", buffering=0) as handle:  # noqa: PTH123 - of a descriptor
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise _other_size(self.path, name)
                while chunk := handle.read(min(CHUNK, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        break
                    yield chunk
        if left:
            raise _other_size(self.path, name)


class Archive:
    """A bundle as one zip."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as archive:
            entries = archive.infolist()
        if len(entries) > MOST_FILES:
            raise _too_many(path)
        files = [entry for entry in entries if not self._is_folder(entry)]
        for entry in files:
            self._check_entry(entry)
        for name, count in Counter(entry.filename for entry in files).items():
            if count > 1:
                raise UserError(
                    f"{path} holds {name} {count} times.",
                    "each file once.",
                    "Pack the bundle again from its folder.",
                )
        self.sizes: dict[str, int] = dict(sorted((entry.filename, entry.file_size) for entry in files))
        _check_limits(path, self.sizes)
        # Entries that share their compressed bytes cost their maker nothing.
        if sum(entry.compress_size for entry in files) > path.stat().st_size:
            raise _bomb(path, "its entries overlap")

    @contextlib.contextmanager
    def _open(self) -> Iterator[zipfile.ZipFile]:
        # What is raised while the caller's block runs may be about another file, and is left as it is.
        with self._reading():
            handle = _Bounded(io.FileIO(self.path))
        with handle:
            with self._reading():
                archive = zipfile.ZipFile(handle)
            with archive:
                yield archive

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        with _reading(self.path):
            try:
                yield
            except _BROKEN_ZIP as error:
                raise UserError(
                    f"{self.path} can't be read as a zip: {str(error) or type(error).__name__}.",
                    "a bundle that was written whole.",
                    "Copy it again from where it came, or export it again.",
                ) from error

    def _is_folder(self, entry: zipfile.ZipInfo) -> bool:
        if not entry.orig_filename.endswith("/"):
            return False
        _check_name(self.path, entry.orig_filename[:-1])
        return entry.file_size == 0

    def _check_entry(self, entry: zipfile.ZipInfo) -> None:
        # zipfile cuts a name at a zero byte; what was written is the original.
        _check_name(self.path, entry.orig_filename)
        name, mode = entry.filename, entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise UserError(
                f"{self.path}: {name} is {'a link' if stat.S_ISLNK(mode) else 'no plain file'}.",
                "plain files only.",
                "Pack the bundle again with `freezeframe bundle pack`.",
            )
        if entry.flag_bits & 0x41 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"{self.path}: {name} is {'encrypted' if entry.flag_bits & 0x41 else 'compressed in an unusual way'}.",
                "files that are stored or deflated, and not encrypted.",
                "Pack the bundle again with `freezeframe bundle pack`.",
            )
        if entry.file_size > max(PLAIN_SIZE, BEST_COMPRESSION * entry.compress_size):
            raise _bomb(
                self.path, f"{name} would grow from {entry.compress_size:,} to {entry.file_size:,} bytes"
            )

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[str], Iterator[bytes]]]:
        """Give what yields a file's bytes; decompressing stops at the size that was declared."""
        with self._open() as archive:
            yield lambda name: self._chunks(archive, name)

    def _chunks(self, archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
        left = self.sizes[name]
        if name not in archive.NameToInfo or archive.getinfo(name).file_size != left:
            raise _other_size(self.path, name)
        with self._reading(), archive.open(name) as handle:
            while chunk := handle.read(CHUNK):
                left -= len(chunk)
                yield chunk
        if left:
            raise _other_size(self.path, name)


class _Bounded(io.BufferedReader):
    """A file of which no more is read at once than a zip's directory may be long."""

    def read(self, size: int | None = -1, /) -> bytes:
        # Without a size zipfile reads the last 64 kB.
        wanted = LARGEST_DIRECTORY if size is None or size < 0 else size
        if wanted > LARGEST_DIRECTORY:
            raise zipfile.BadZipFile("its directory is too long")
        return super().read(wanted)


def _check_name(path: Path, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{path} holds the file name {name[:200]!r}.",
            "plain names inside the bundle: letters, digits, '.', '_' and '-', not starting with a dot.",
            "Rename or remove it.",
        )


def _check_limits(path: Path, sizes: Mapping[str, int]) -> None:
    folded: dict[str, str] = {}
    for name, size in sizes.items():
        if size > LARGEST_FILE:
            raise UserError(
                f"{path}: {name} has {size:,} bytes.",
                f"at most {LARGEST_FILE:,} a file.",
                "Leave it out of the bundle.",
            )
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise UserError(
                f"{path} holds {other} and {name}, which are one file on some systems.",
                "names that differ by more than capitals.",
                "Rename or remove one.",
            )
    if len(sizes) > MOST_FILES:
        raise _too_many(path)
    if (total := sum(sizes.values())) > LARGEST_BUNDLE:
        raise UserError(
            f"{path} holds {total:,} bytes.",
            f"at most {LARGEST_BUNDLE:,}.",
            "Export fewer or smaller members.",
        )


def _too_many(path: Path) -> UserError:
    return UserError(
        f"{path} holds more than {MOST_FILES:,} files.",
        "a bundle, which has some twenty.",
        "Check the path.",
    )


def _other_size(path: Path, name: str) -> UserError:
    return UserError(
        f"{path}: {name} is not as long as it says.",
        "a bundle that was written whole and stays as it is.",
        "Copy it again from where it came, or export it again.",
    )


def _bomb(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} looks like a zip bomb: {why}.",
        "a bundle as `freezeframe bundle pack` writes it.",
        "Ask whoever made it.",
    )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({error.strerror or error}).",
            "files that stay where they are and may be read.",
            "Check that they are there, and their permissions.",
        ) from error
