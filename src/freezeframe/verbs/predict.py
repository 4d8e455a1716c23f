"""Answers of a bundle for one image or a million."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from freezeframe.bundle.runtime import job
from freezeframe.bundle.runtime.answering import Pictures, answer_shards
from freezeframe.bundle.runtime.folder import Bundle, open_bundle
from freezeframe.bundle.runtime.inputs import STANDARD_INPUT
from freezeframe.bundle.runtime.predictor import Predictor
from freezeframe.bundle.runtime.ray_job import Ordered, answer_on_cluster
from freezeframe.bundle.runtime.results import Layout, Summary, check_out
from freezeframe.bundle.runtime.sessions import Engine
from freezeframe.bundle.runtime.spool import Spool
from freezeframe.errors import UserError
from freezeframe.report.language import check


@dataclass(frozen=True)
class Predicted:
    """What `predict` wrote.

    Attributes
    ----------
    path : Path
        The results.
    summary : Summary
        How many images, decisions, warnings, and images that could not be read.
    notes : tuple of str
        What was passed over in folders.
    """

    path: Path
    summary: Summary
    notes: tuple[str, ...]


def predict(
    bundle: str | Path,
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    operating_point: str | None = None,
    members: bool = False,
    lang: str = "en",
    heat_maps: str | Path | None = None,
    engine: Engine = "onnxruntime",
    workers: int | None = None,
    threads: int | None = None,
    cluster: str | None = None,
    public_key: str | Path | None = None,
) -> Predicted:
    """Have a bundle answer for images; needs no torch.

    Called again after it was killed, it goes on where it was. See ``docs/inference.md``.

    Parameters
    ----------
    bundle : str or Path
        Its folder or ``.ffb`` file.
    paths : str, Path or sequence of them
        Image files, folders, tables of image paths, or ``-`` for a list of paths on standard input.
    out : str or Path
        The results: ``.csv``, ``.parquet`` or ``.jsonl``, with a row for each image in the order of the paths.
    operating_point : str, optional
        Name of one of the bundle's; its first where left out.
    members : bool
        Whether each member's probabilities are wanted.
    lang : str
        Language of the warnings' sentences, ``"en"`` or ``"es"``.
    heat_maps : str or Path, optional
        Folder for a picture of each image, grey, with what spoke for the decision in colour.
    engine : str
        ``"onnxruntime"`` or ``"openvino"``.
    workers : int, optional
        Processes that decode and prepare images; one a core where left out. On a cluster: most parts at a time.
    threads : int, optional
        Of the networks: all cores where left out. On a cluster: cores of each task, 1 where left out.
    cluster : str, optional
        Address of a Ray cluster, ``"auto"``, or ``"local"`` for Ray on this machine.
    public_key : str or Path, optional
        A bundle that is not signed with its secret key is refused.

    Returns
    -------
    Predicted
        With counts; the rows are in the file.

    Raises
    ------
    UserError
        If the bundle or a path is refused, an unfinished job there was another one, or the disk is full.

    Examples
    --------
    >>> predict("chest.ffb", "scans/", out="answers.csv")  # doctest: +SKIP
    """
    out = Path(out)
    check_out(out)
    check(lang)
    for name, number in (("workers", workers), ("threads", threads)):
        if number is not None and number < 1:
            raise UserError(f"--{name} is {number}.", "1 or more.", "Leave it out to use all cores.")
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    opened = open_bundle(Path(bundle), public_key)
    # Also where a cluster computes: what is wrong with engine, point or heat maps is said before anything is listed.
    predictor = Predictor(opened, engine, threads, operating_point)
    if heat_maps is not None and not predictor.has_heat_maps:
        raise UserError(
            f"The bundle {opened.contents.name} has no heat maps: its networks end without a feature map.",
            "a member with a convolutional network.",
            "Leave --heat-maps out.",
        )
    pictures = Pictures(Path(heat_maps).absolute(), draw_heat_map) if heat_maps is not None else None
    point = operating_point or next((entry.name for entry in opened.contents.operating_points), None)
    asked = job.Asked(
        tuple(str(path) for path in given),
        opened.sha256,
        point,
        members,
        lang,
        engine,
        str(pictures.folder) if pictures else "",
    )
    layout = partial(_layout, opened, point, lang, members, pictures is not None)
    if cluster is None:
        compute = _here(predictor, workers, pictures)
    else:
        compute = _there(opened, engine, threads or 1, operating_point, pictures, cluster, workers)
    lines = sys.stdin if STANDARD_INPUT in asked.paths else ()
    summary, notes = job.run(asked, out, layout, compute, lines, None if cluster else workers)
    return Predicted(out, summary, notes)


def _layout(
    bundle: Bundle, point: str | None, lang: str, members: bool, pictures: bool, carried: tuple[str, ...]
) -> Layout:
    return Layout.of(
        bundle.contents,
        bundle.sha256,
        point,
        lang=lang,
        each_member=members,
        pictures=pictures,
        carried=carried,
    )


def _here(predictor: Predictor, workers: int | None, pictures: Pictures | None) -> job.Compute:
    def compute(layout: Layout, todo: Spool, left: list[int]) -> Iterator[tuple[int, pa.Table]]:
        total = sum(todo.sizes[number] for number in left)
        return answer_shards(predictor, layout, left, todo.read, total, workers, pictures)

    return compute


def _there(
    bundle: Bundle,
    engine: Engine,
    threads: int,
    operating_point: str | None,
    pictures: Pictures | None,
    address: str,
    tasks: int | None,
) -> job.Compute:
    def compute(layout: Layout, todo: Spool, left: list[int]) -> Iterator[tuple[int, pa.Table]]:
        order = Ordered(
            bundle.path.absolute(), bundle.sha256, engine, threads, operating_point, layout, pictures
        )
        return answer_on_cluster(order, todo, left, address, tasks)

    return compute


def draw_heat_map(prepared: np.ndarray, heat: np.ndarray) -> bytes:
    """Draw a prepared image, (H, W) or (H, W, 3), grey, with its heat map (H, W) in colour; returns a PNG."""
    # Imported here because matplotlib takes a second, which whoever wants no pictures does not have to pay.
    from freezeframe.report.pictures import overlay

    eight_bit = prepared if prepared.dtype == np.uint8 else np.rint(prepared / 257).astype(np.uint8)
    colour = np.repeat(eight_bit[..., None], 3, axis=2) if eight_bit.ndim == 2 else eight_bit
    buffer = BytesIO()
    Image.fromarray(overlay(colour, heat)).save(buffer, "PNG")
    return buffer.getvalue()
