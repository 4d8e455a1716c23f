"""Find the image files below a folder, whatever else lies there, and hash them."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError
from freezeframe.progress import progress

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
# What JPEG, PNG, TIFF (both byte orders) and WebP files begin with: they are found under any name.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"MM\x00*")
_CLUTTER = {"__macosx", "thumbs.db", "desktop.ini", "dicomdir"}
_HASHING_THREADS = 8


@dataclass(frozen=True)
class Scan:
    """Image files below a folder.

    Attributes
    ----------
    files : tuple of str
        POSIX paths relative to the folder, in code-point order.
    dicom : frozenset of str
        Those that are DICOM.
    others : tuple of str
        Files that are no images, hidden ones left out.
    notes : tuple of str
        What was left out, and why.
    """

    files: tuple[str, ...]
    dicom: frozenset[str]
    others: tuple[str, ...]
    notes: tuple[str, ...]


def scan(folder: Path, table: Path | None = None) -> Scan:
    """Find all images below a folder, through symbolic links, each real folder once.

    Hidden files, operating systems' clutter and files that are no images are left out and counted. Names that are not
    UTF-8, broken links and folders that can't be opened are listed.

    Parameters
    ----------
    folder : Path
        Where to look.
    table : Path, optional
        A file that is read otherwise, and so is not counted as left out.

    Raises
    ------
    UserError
        If the folder itself can't be read.
    """
    walk = _Walk(folder)
    kinds = {name: kind_of_file(folder / name) for name in walk.files}
    images = sorted(name for name, kind in kinds.items() if kind)
    others = tuple(sorted(name for name, kind in kinds.items() if not kind and folder / name != table))
    notes = []
    if others or walk.hidden:
        examples = f", such as {listed(others, most=3)}" if others else ""
        number = len(others) + walk.hidden
        notes.append(
            f"Left out {counted(number, 'file')} that {'is no image' if number == 1 else 'are no images'}{examples}."
        )
    if walk.repeated:
        links = f"{counted(len(walk.repeated), 'link')} to folders that are read already"
        notes.append(f"Left out {links}: {listed(sorted(walk.repeated))}.")
    if walk.unreadable:
        notes.append(
            f"Left out {counted(len(walk.unreadable), 'unreadable name')}: {'; '.join(walk.unreadable[:10])}."
        )
    return Scan(
        tuple(images), frozenset(name for name in images if kinds[name] == "dicom"), others, tuple(notes)
    )


class _Walk:
    """One walk through a folder: real folders first, then links to folders that were not seen yet."""

    def __init__(self, folder: Path) -> None:
        self.files: list[str] = []
        self.unreadable: list[str] = []
        self.repeated: list[str] = []
        self.hidden = 0
        self._seen: set[str] = set()
        self._links: list[tuple[str, str]] = []
        try:
            os.scandir(folder).close()
        except OSError as error:
            raise UserError(
                f"{folder} can't be read ({error.strerror}).", "a folder of images.", "Check it."
            ) from error
        self._enter(os.fspath(folder), "")
        while self._links:
            path, name = self._links.pop(0)
            if os.path.realpath(path) in self._seen:
                self.repeated.append(name)
            else:
                self._enter(path, name)

    def _enter(self, folder: str, prefix: str) -> None:
        waiting = [(folder, prefix)]
        while waiting:
            folder, prefix = waiting.pop()
            self._seen.add(os.path.realpath(folder))
            try:
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                self.unreadable.append(f"{prefix}/ ({error.strerror})")
                continue
            for entry in entries:
                name = f"{prefix}/{entry.name}" if prefix else entry.name
                if is_clutter(entry.name):
                    self.hidden += 1
                elif not _is_text(entry.name):
                    self.unreadable.append(f"{_shown(name)} (the name is not UTF-8)")
                else:
                    self._take(entry, name, waiting)

    def _take(self, entry: os.DirEntry[str], name: str, waiting: list[tuple[str, str]]) -> None:
        try:
            if entry.is_dir():
                target = self._links if entry.is_symlink() else waiting
                target.append((entry.path, name))
            elif entry.is_file():
                self.files.append(name)
            elif entry.is_symlink():
                self.unreadable.append(f"{name} (a link to nothing)")
            else:  # a pipe or device would be waited on for ever
                self.hidden += 1
        except OSError as error:
            self.unreadable.append(f"{name} ({error.strerror})")


def is_clutter(name: str) -> bool:
    """Tell whether a file or folder is hidden, or is what operating systems leave behind."""
    return name.startswith(".") or name.lower() in _CLUTTER


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 arrive as lone surrogates
        return False
    return True


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_regular_file(path: Path) -> bool:
    """Tell whether a path is a file; False too where the system refuses the name."""
    try:
        return path.is_file()
    except OSError:  # a cell of a table can hold more than a name's 255 bytes
        return False


def kind_of_file(path: Path) -> str:
    """Tell whether a file is ``image``, ``dicom`` or neither (''), by its name, else by how it begins."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in DICOM_SUFFIXES:
        return "dicom"
    if suffix in IMAGE_SUFFIXES:
        return "image"
    try:
        with path.open("rb") as handle:
            start = handle.read(132)
    except OSError:
        return ""
    if start[128:132] == b"DICM":  # PS3.10, section 7.1
        return "dicom"
    return (
        "image" if start.startswith(_SIGNATURES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP") else ""
    )


@dataclass(frozen=True)
class Content:
    """Identity of a file's content."""

    sha256: str
    bytes: int


def hash_files(paths: list[Path]) -> Iterator[Content | OSError]:
    """Hash files in threads, behind a progress bar.

    Yields
    ------
    Content or OSError
        In the order of the paths; the error where a file can't be read.
    """
    with (
        ThreadPoolExecutor(_HASHING_THREADS) as pool,
        progress("Reading files", len(paths), "files") as advance,
    ):
        for content in pool.map(_hash, paths):
            advance(1)
            yield content


def _hash(path: Path) -> Content | OSError:
    try:
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256")
            return Content(digest.hexdigest(), handle.tell())
    except OSError as error:
        return error
