"""From the paths that a user gives to a list of images: files, folders, DICOM frames, tables, and lists of paths."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freezeframe.bundle.runtime import spool
from freezeframe.bundle.runtime.frames import frames_of
from freezeframe.bundle.runtime.spool import Row, Spool
from freezeframe.bundle.runtime.walk import PassedOver, walk
from freezeframe.data.sources.scan import IMAGE_SUFFIXES, is_regular_file, kind_of_file
from freezeframe.data.sources.table import TABLE_SUFFIXES, image_column, read_in_parts
from freezeframe.data.wording import listed
from freezeframe.errors import UserError
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.worker_process import Reference
from freezeframe.imaging.workers import map_images
from freezeframe.progress import progress

STANDARD_INPUT = "-"
_MULTI_FRAME_SUFFIXES = (".tif", ".tiff")
_ROWS_AT_ONCE = 4096
# What a first list says of a row, in place of its problem.
_COUNT, _COUNT_IN_FOLDER = "\0count", "\0count in folder"


@dataclass
class _Gathering:
    """What is known while the list is made: each table's image column, and how other columns are carried."""

    room: Path
    image_columns: dict[str, str] = field(default_factory=dict)
    carried: dict[str, str] = field(default_factory=dict)
    passed: PassedOver = field(default_factory=PassedOver)
    to_count: int = 0


def gather(
    paths: Sequence[str],
    to: Path,
    shard: int,
    key: dict[str, Any],
    taken: Iterable[str] = (),
    lines: Iterable[str] = (),
    workers: int | None = None,
) -> Spool:
    """List all images below the paths, and write the list; memory does not grow with it.

    Parameters
    ----------
    paths : sequence of str
        Image files; folders, which are read with all below them; tables (.csv, .tsv, .parquet), whose image column is
        found by its name and whose other columns are carried through; ``-`` for `lines`.
    to : Path
        The list; its folder takes temporary files as well.
    shard : int
        Images of a shard.
    key : dict
        What the list is made for.
    taken : iterable of str
        Column names of the results: a table's column of the same name is carried as ``input_<name>``.
    lines : iterable of str
        Paths of files and folders, one a line.
    workers : int, optional
        Processes that look into DICOM and TIFF files for their number of frames.

    Returns
    -------
    Spool
        With a row for each frame, in the order of the paths. What can't be read has its row, too; files in folders
        that are no images are passed over and counted.

    Raises
    ------
    UserError
        If a path is missing, a table has no image column, or there is nothing to look at.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    state = _Gathering(to.parent)
    for given in paths:
        if given != STANDARD_INPUT:
            _look_at(given, state)
    _rename(state.carried, set(taken))
    carried = tuple(state.carried.values())
    first = to.with_name(f"first-{to.name}")
    with progress("Listing", None) as advance:
        spool.write(
            first, _told(_rows(paths, lines, state), advance), carried, shard, key, state.passed.notes
        )
    if state.to_count:
        rows = _with_frames(_spooled(first), state, workers)
        spool.write(to, rows, carried, shard, key, state.passed.notes)
        first.unlink()
    else:
        first.replace(to)
    found = _spooled(to)
    if not found.sizes:
        to.unlink()
        raise UserError(
            f"There is no image in {listed(paths)}. {' '.join(found.notes)}".strip(),
            "JPEG, PNG, TIFF, WebP, BMP or DICOM files.",
            "Check the paths.",
        )
    return found


def _spooled(path: Path) -> Spool:
    found = spool.read(path)
    assert found is not None  # it was just written
    return found


def _told(rows: Iterator[Row], advance: Callable[[int], None]) -> Iterator[Row]:
    for row in rows:
        advance(1)
        yield row


def _look_at(given: str, state: _Gathering) -> None:
    """Refuse a path that leads nowhere, and find a table's columns."""
    path = Path(given)
    if not path.is_dir() and not is_regular_file(path):
        raise UserError(
            f"There is no file or folder {given}.", "images, folders, tables, or '-'.", "Check the path."
        )
    if path.is_dir() or path.suffix.lower() not in TABLE_SUFFIXES:
        return
    columns = [str(name) for name in next(read_in_parts(path, 1)).columns]
    if not image_column(columns):
        raise UserError(
            f"{given} has no column of image paths; it has {listed(columns, 30)}.",
            "one with a usual name, such as 'image' or 'path'.",
            "Rename the column, or give the images' folder.",
        )
    state.image_columns[given] = image_column(columns)
    state.carried |= {name: name for name in columns if name != state.image_columns[given]}


def _rename(carried: dict[str, str], taken: set[str]) -> None:
    """Let no carried column be called like a result or like another one."""
    for name in carried:
        while carried[name] in taken or (carried[name] != name and carried[name] in carried):
            carried[name] = f"input_{carried[name]}"


def _rows(paths: Sequence[str], lines: Iterable[str], state: _Gathering) -> Iterator[Row]:
    nothing = ("",) * len(state.carried)
    for given in paths:
        if given == STANDARD_INPUT:
            for line in lines:
                if name := line.rstrip("\r\n"):
                    yield from _file_or_folder(name, nothing, state)
        elif given in state.image_columns:
            yield from _in_table(given, state)
        else:
            yield from _file_or_folder(given, nothing, state)


def _file_or_folder(given: str, carried: tuple[str, ...], state: _Gathering) -> Iterator[Row]:
    path = Path(given).absolute()
    if path.is_dir():
        for name in walk(path, state.passed, state.room):
            yield _row(os.path.join(given, name), path / name, carried, _COUNT_IN_FOLDER, state)  # noqa: PTH118
    else:
        yield _row(given, path, carried, _COUNT, state)


def _in_table(given: str, state: _Gathering) -> Iterator[Row]:
    path = Path(given).absolute()
    image = state.image_columns[given]
    for part in read_in_parts(path, _ROWS_AT_ONCE):
        columns = [part[name] if name in part.columns else [""] * len(part) for name in state.carried]
        for cell, *carried in zip(part[image], *columns, strict=True):
            name = cell.strip().replace("\\", "/")
            if name:
                yield _row(cell, path.parent / name, tuple(carried), _COUNT, state)
            else:
                yield Row(cell, "", 0, f"{path.name} names no file here.", tuple(carried))


def _row(image: str, path: Path, carried: tuple[str, ...], counting: str, state: _Gathering) -> Row:
    try:
        f"{image}{path}".encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 arrive as lone surrogates
        shown = os.fsencode(image).decode("utf-8", "backslashreplace")
        return Row(shown, "", 0, "its name is not UTF-8: rename it.", carried)
    if not is_regular_file(path):  # a pipe would be waited on for ever
        return Row(image, str(path), 0, "there is no such file.", carried)
    suffix = path.suffix.lower()
    if suffix in _MULTI_FRAME_SUFFIXES or (suffix not in IMAGE_SUFFIXES and kind_of_file(path)):
        state.to_count += 1
        return Row(image, str(path), 0, counting, carried)
    return Row(image, str(path), 0, "", carried)


def _with_frames(walked: Spool, state: _Gathering, workers: int | None) -> Iterator[Row]:
    """Give each frame its row; one pass through the list sends files to be counted, another takes their numbers."""
    references = (
        Reference(Path(row.path), 0) for row in _all(walked) if row.problem in (_COUNT, _COUNT_IN_FOLDER)
    )
    counted = map_images(frames_of, references, "Counting frames", workers, total=state.to_count)  # type: ignore[arg-type]
    with closing(counted):  # type: ignore[type-var]
        for row in _all(walked):
            if row.problem not in (_COUNT, _COUNT_IN_FOLDER):
                yield row
                continue
            _, frames = next(counted)
            if isinstance(frames, UnreadableImage):
                yield row._replace(problem=frames.reason)
            elif frames == 0 and row.problem == _COUNT_IN_FOLDER:
                state.passed.add("without_image", row.image)
            elif frames == 0:
                yield row._replace(problem="it is a DICOM file without an image.")
            else:
                for frame in range(frames):
                    yield row._replace(frame=frame, problem="")


def _all(found: Spool) -> Iterator[Row]:
    for shard in range(len(found.sizes)):
        yield from found.read(shard)
