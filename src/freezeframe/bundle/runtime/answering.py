"""Shards of images through a bundle: workers decode and prepare while the networks compute."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from freezeframe import files
from freezeframe.bundle.runtime.predictor import Answers, Predictor
from freezeframe.bundle.runtime.preparing import Prepared, prepare
from freezeframe.bundle.runtime.results import Layout, Shard
from freezeframe.bundle.runtime.spool import Row
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.worker_process import Reference
from freezeframe.imaging.workers import map_images

IMAGES_AT_ONCE = 64
"""That the networks are given; what waits to be computed is at most twice as many."""
_AHEAD = 2

Draw = Callable[[np.ndarray, np.ndarray], bytes]
"""From a prepared image and its heat map (H, W) in [0, 1] to a PNG."""


@dataclass(frozen=True)
class Pictures:
    """Where heat maps go, and who draws them.

    Attributes
    ----------
    folder : Path
        Takes a folder for each shard.
    draw : callable
        At the top level of a module, so that other processes can be given it.
    """

    folder: Path
    draw: Draw


def answer_shards(
    predictor: Predictor,
    layout: Layout,
    shards: Sequence[int],
    rows_of: Callable[[int], list[Row]],
    total: int,
    workers: int | None = None,
    pictures: Pictures | None = None,
) -> Iterator[tuple[int, pa.Table]]:
    """Answer for all images of some shards.

    Images are computed in groups that depend on nothing but their shard, so a shard's answers have the same bits
    whoever computes them, and whatever was computed before.

    Parameters
    ----------
    predictor : Predictor
        The bundle.
    layout : Layout
        Of the results.
    shards : sequence of int
        Numbers of the shards, in order.
    rows_of : callable
        Returns the images of a shard.
    total : int
        Images of all these shards.
    workers : int, optional
        Processes that decode and prepare; one a core where left out.
    pictures : Pictures, optional
        Where heat maps are wanted.

    Yields
    ------
    (int, Table)
        Each shard's number and rows, in order.
    """
    function = partial(prepare, preprocessings=predictor.preprocessings)
    references = (
        Reference(Path(row.path), row.frame) for shard in shards for row in rows_of(shard) if not row.problem
    )
    outcomes = map_images(function, references, "Predicting", workers, total=total)  # type: ignore[arg-type]
    waiting: deque[_Group | _End] = deque()
    with ThreadPoolExecutor(1) as networks, closing(outcomes):  # type: ignore[type-var]
        for number in shards:
            shard = Shard(layout, rows_of(number))
            for group in _groups(shard, outcomes):
                compute = partial(_compute, predictor, pictures, number, shard.rows, *group)
                waiting.append(_Group(shard, group[0], networks.submit(compute)))
                yield from _finished(waiting, _AHEAD)
            waiting.append(_End(number, shard))
        yield from _finished(waiting, 0)


@dataclass(frozen=True)
class _Group:
    shard: Shard
    places: list[int]
    answers: "Future[tuple[Answers, list[str]]]"


@dataclass(frozen=True)
class _End:
    number: int
    shard: Shard


def _finished(waiting: "deque[_Group | _End]", ahead: int) -> Iterator[tuple[int, pa.Table]]:
    """Take the oldest answers until few groups wait; yields the shards that are complete."""
    while waiting and (isinstance(waiting[0], _End) or len(waiting) > ahead):
        first = waiting.popleft()
        if isinstance(first, _End):
            yield first.number, first.shard.table()
        else:
            answers, names = first.answers.result()
            first.shard.take(first.places, answers, names)


def _groups(
    shard: Shard, outcomes: Iterator[tuple[int, Prepared | UnreadableImage]]
) -> Iterator[tuple[list[int], list[Prepared]]]:
    places: list[int] = []
    prepared: list[Prepared] = []
    for place, row in enumerate(shard.rows):
        if row.problem:
            shard.fail(place, row.problem)
            continue
        _, outcome = next(outcomes)
        if isinstance(outcome, UnreadableImage):
            shard.fail(place, outcome.reason)
            continue
        places.append(place)
        prepared.append(outcome)
        if len(places) == IMAGES_AT_ONCE:
            yield places, prepared
            places, prepared = [], []
    if places:
        yield places, prepared


def _compute(
    predictor: Predictor,
    pictures: Pictures | None,
    number: int,
    rows: Sequence[Row],
    places: list[int],
    prepared: list[Prepared],
) -> tuple[Answers, list[str]]:
    answers = predictor.answer(prepared, maps=pictures is not None)
    if pictures is None:
        return answers, []
    names = []
    maps = predictor.heat_maps(prepared, answers.decisions, answers.maps)
    for place, one, heat in zip(places, prepared, maps, strict=True):
        name = _picture_name(number, place, rows[place])
        files.write_bytes(pictures.folder / name, pictures.draw(one.images[0], heat))
        names.append(name)
    return answers, names


def _picture_name(shard: int, place: int, row: Row) -> str:
    """Name a picture so that the same names in several folders, and frames of one file, do not meet."""
    stem = re.sub(r"[^\w.-]+", "_", PurePosixPath(row.image).stem)[:60]
    return f"{shard:05d}/{place:04d}-{stem}.png"
