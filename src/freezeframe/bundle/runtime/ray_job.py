"""Shards of a job as tasks of a Ray cluster: the driver deals them and writes what comes back."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from freezeframe import machine
from freezeframe.bundle.runtime.answering import Pictures, answer_shards
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.bundle.runtime.predictor import Predictor
from freezeframe.bundle.runtime.results import Layout
from freezeframe.bundle.runtime.sessions import Engine
from freezeframe.bundle.runtime.spool import Row, Spool
from freezeframe.cluster import connected
from freezeframe.errors import FreezeframeError, UserError
from freezeframe.progress import heard_by, progress

RETRIES = 3
"""How often a shard is done again whose worker died."""


@dataclass(frozen=True)
class Ordered:
    """What a worker needs to know besides its images; all nodes find the same under its paths.

    Attributes
    ----------
    bundle : Path
        Absolute.
    sha256 : str
        The bundle's identity.
    engine : str
        What computes.
    threads : int
        Cores of a task.
    operating_point : str or None
        Name.
    layout : Layout
        Of the results.
    pictures : Pictures or None
        Where heat maps are wanted.
    """

    bundle: Path
    sha256: str
    engine: Engine
    threads: int
    operating_point: str | None
    layout: Layout
    pictures: Pictures | None


def answer_on_cluster(
    order: Ordered, todo: Spool, left: list[int], address: str, tasks: int | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """Have a cluster answer for the shards that are left.

    A shard whose worker or node is lost is done again elsewhere, up to `RETRIES` times; since a shard comes back whole
    or not at all, nothing is lost and nothing comes twice.

    Parameters
    ----------
    order : Ordered
        What is wanted.
    todo : Spool
        The images.
    left : list of int
        Numbers of the shards.
    address : str
        ``"local"`` starts Ray on this machine; else that of a cluster, or ``"auto"`` for the one that runs here.
    tasks : int, optional
        Most shards at a time; as many as the cluster has room for where left out.

    Yields
    ------
    (int, Table)
        Each shard's number and rows, in the order in which they are finished.

    Raises
    ------
    UserError
        If Ray is not installed or there is no cluster.
    FreezeframeError
        If a shard's worker died again and again, or a worker finds another bundle.
    """
    cores = machine.available_cores() if tasks is None else tasks * order.threads
    with (
        connected(address, "--cluster is given", cores=cores) as ray,
        progress("Predicting", sum(todo.sizes[number] for number in left)) as advance,
    ):
        task = ray.remote(num_cpus=order.threads, max_retries=RETRIES)(_answer_shard)
        shared = ray.put(order)
        room = int(ray.cluster_resources().get("CPU", 1) // order.threads)
        most = tasks or 2 * max(1, room)  # one waits behind each that is computed
        ahead = iter(left)
        running: dict[Any, int] = {}
        while True:
            while len(running) < most and (number := next(ahead, None)) is not None:
                running[task.remote(shared, number, todo.read(number))] = number
            if not running:
                return
            (ready,), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(ready)
            try:
                table = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, FreezeframeError) else error
                raise cause from error
            except ray.exceptions.RayError as error:
                raise FreezeframeError(
                    f"The part {number} of the images was lost {RETRIES + 1} times: {error} "
                    "What was finished is kept; the same command goes on."
                ) from error
            yield number, table
            advance(todo.sizes[number])


def _answer_shard(order: Ordered, number: int, rows: list[Row]) -> pa.Table:
    """Do one shard, inside a worker of the cluster."""
    predictor = _predictor(order.bundle, order.sha256, order.engine, order.threads, order.operating_point)
    with heard_by(lambda *_: None):
        ((_, table),) = answer_shards(
            predictor, order.layout, [number], lambda _: rows, len(rows), order.threads, order.pictures
        )
    return table


@cache
def _predictor(
    path: Path, sha256: str, engine: Engine, threads: int, operating_point: str | None
) -> Predictor:
    """Load a bundle once in each worker process."""
    bundle = open_bundle(path)
    if bundle.sha256 != sha256:
        raise UserError(
            f"{path} on {os.uname().nodename} is not the bundle that the job was begun with.",
            "the same bundle on all nodes.",
            "Keep it on storage that all nodes see.",
        )
    return Predictor(bundle, engine, threads, operating_point)
