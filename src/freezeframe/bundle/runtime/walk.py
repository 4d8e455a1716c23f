"""The image files below a folder, one after another, in bounded memory however many there are."""

import heapq
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from freezeframe.data.sources.scan import is_clutter, kind_of_file
from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError

ENTRIES_IN_MEMORY = 50_000
"""Of one folder; more are sorted on disk."""
_EXAMPLES = 3


@dataclass
class PassedOver:
    """What was met in folders and is not looked at.

    Attributes
    ----------
    others : int
        Files that are no images, hidden ones and systems' clutter among them.
    without_image : int
        DICOM files without an image, such as reports and plans.
    links : int
        Links to folders that are read already.
    unreadable : int
        Folders that can't be opened, and broken links.
    examples : dict of str to list of str
        The first few names, by the attribute that counts them.
    """

    others: int = 0
    without_image: int = 0
    links: int = 0
    unreadable: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, name: str = "") -> None:
        """Count one."""
        setattr(self, what, getattr(self, what) + 1)
        examples = self.examples.setdefault(what, [])
        if name and len(examples) < _EXAMPLES:
            examples.append(os.fsencode(name).decode("utf-8", "backslashreplace"))

    def notes(self) -> list[str]:
        """Say it in sentences; nothing where nothing was passed over."""
        words = {
            "others": (self.others, "file", "that {} no image{}"),
            "without_image": (
                self.without_image,
                "DICOM file",
                "without an image (reports, plans, waveforms)",
            ),
            "links": (self.links, "link", "to folders that are read already"),
            "unreadable": (self.unreadable, "name", "that can't be opened"),
        }
        notes = []
        for what, (number, thing, why) in words.items():
            if number:
                examples = self.examples.get(what)
                such = f", such as {listed(examples)}" if examples else ""
                said = why.format(*(("is", "") if number == 1 else ("are", "s")))
                notes.append(f"Passed over {counted(number, thing)} {said}{such}.")
        return notes


def walk(folder: Path, passed: PassedOver, room: Path) -> Iterator[str]:
    """Yield all images below a folder, through symbolic links, each real folder once.

    Real folders come first, then links to folders elsewhere. The entries of each folder are in code-point order; those
    of a large folder are sorted in temporary files. What is remembered grows with the number of links only.

    Parameters
    ----------
    folder : Path
        Where to look.
    passed : PassedOver
        Counts what is no image.
    room : Path
        Folder for temporary files.

    Yields
    ------
    str
        POSIX paths relative to the folder.

    Raises
    ------
    UserError
        If the folder itself can't be read.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise UserError(
            f"{folder} can't be read ({error.strerror}).", "a folder of images.", "Check it."
        ) from error
    begun = {os.path.realpath(folder)}
    links: list[str] = []
    yield from _below(folder, "", begun, links, passed, room)
    while links:
        name = links.pop(0)
        real = os.path.realpath(folder / name)
        if _is_read(real, begun):
            passed.add("links", name)
        else:
            begun.add(real)
            yield from _below(folder, name, begun, links, passed, room)


def _is_read(real: str, begun: set[str]) -> bool:
    """Tell whether a real folder lies where a walk began or below, and not below a hidden folder there."""
    path = Path(real)
    for above in (path, *path.parents):
        if str(above) in begun:
            return True
        if above.name.startswith("."):
            return False
    return False


def _below(
    root: Path, start: str, begun: set[str], links: list[str], passed: PassedOver, room: Path
) -> Iterator[str]:
    stack = [(start, _entries(root / start, start, passed, room))]
    while stack:
        prefix, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        kind, name = entry[1], f"{prefix}/{entry[0]}" if prefix else entry[0]
        if kind == "file":
            if kind_of_file(root / name):
                yield name
            else:
                passed.add("others", name)
        elif kind == "link":
            links.append(name)
        elif len(begun) > 1 and os.path.realpath(root / name) in begun:
            passed.add("links", name)
        else:
            stack.append((name, _entries(root / name, name, passed, room)))


def _entries(folder: Path, name: str, passed: PassedOver, room: Path) -> Iterator[tuple[str, str]]:
    """Yield name and kind ('file', 'folder', 'link' to a folder) of a folder's entries, sorted by name."""
    runs: list[Iterator[tuple[str, str]]] = []
    entries: list[tuple[str, str]] = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if kind := _kind(entry, f"{name}/{entry.name}" if name else entry.name, passed):
                    entries.append((entry.name, kind))
                if len(entries) == ENTRIES_IN_MEMORY:
                    runs.append(_on_disk(sorted(entries), room))
                    entries = []
    except OSError:
        passed.add("unreadable", f"{name}/")
    yield from heapq.merge(sorted(entries), *runs)


def _on_disk(entries: list[tuple[str, str]], room: Path) -> Iterator[tuple[str, str]]:
    handle = tempfile.TemporaryFile("w+", encoding="ascii", dir=room)  # noqa: SIM115 - closed when it was read
    handle.writelines(f"{json.dumps(entry)}\n" for entry in entries)
    handle.seek(0)

    def read() -> Iterator[tuple[str, str]]:
        with handle:
            for line in handle:
                name, kind = json.loads(line)
                yield name, kind

    return read()


def _kind(entry: os.DirEntry[str], name: str, passed: PassedOver) -> str:
    if is_clutter(entry.name):
        passed.add("others")
        return ""
    try:
        if entry.is_dir():
            return "link" if entry.is_symlink() else "folder"
        if entry.is_file():
            return "file"
        # A link to nothing; a pipe or a device would be waited on for ever.
        passed.add("unreadable" if entry.is_symlink() else "others", name)
    except OSError:
        passed.add("unreadable", name)
    return ""
