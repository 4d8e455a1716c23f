"""A job of many images: what was finished is kept in parts beside the results, and taken up again after a kill."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from freezeframe import files
from freezeframe.bundle.runtime import inputs, spool
from freezeframe.bundle.runtime.results import Layout, Summary, check_out, join
from freezeframe.bundle.runtime.spool import Spool
from freezeframe.data.wording import counted
from freezeframe.errors import UserError
from freezeframe.progress import say

SHARD = 1024
"""Images of one part, which is what a kill may cost."""
_ASKED = {
    "paths": "the paths",
    "bundle": "the bundle",
    "operating_point": "the operating point",
    "each_member": "--members",
    "lang": "--lang",
    "engine": "--engine",
    "heat_maps": "--heat-maps",
    "shard": "the size of a part",
}

Compute = Callable[[Layout, Spool, list[int]], Iterator[tuple[int, pa.Table]]]
"""Answers for the shards that are left, in any order."""


@dataclass(frozen=True)
class Asked:
    """What a job's answers depend on; a job that was begun goes on with the same only.

    Attributes
    ----------
    paths : tuple of str
        As the user gave them.
    bundle : str
        Its identity.
    operating_point : str or None
        Name.
    each_member : bool
        See `Layout`.
    lang : str
        Of the sentences.
    engine : str
        What computes.
    heat_maps : str
        Absolute path of the pictures' folder; '' for none.
    """

    paths: tuple[str, ...]
    bundle: str
    operating_point: str | None
    each_member: bool
    lang: str
    engine: str
    heat_maps: str

    def key(self, shard: int) -> dict[str, Any]:
        """Return it as plain data, with paths that mean the same from everywhere."""
        paths = [path if path == inputs.STANDARD_INPUT else str(Path(path).absolute()) for path in self.paths]
        return {**vars(self), "paths": paths, "shard": shard}


def run(
    asked: Asked,
    out: Path,
    layout: Callable[[tuple[str, ...]], Layout],
    compute: Compute,
    lines: Iterable[str] = (),
    workers: int | None = None,
    shard: int = SHARD,
) -> tuple[Summary, tuple[str, ...]]:
    """Answer for all images of some paths, and write the results; called again after a kill, it goes on.

    Parameters
    ----------
    asked : Asked
        What is wanted.
    out : Path
        The results. The list of images and what is finished lie in ``OUT.parts/`` until they are complete.
    layout : callable
        Lays out the results for some carried columns.
    compute : callable
        See `Compute`.
    lines : iterable of str
        See `inputs.gather`.
    workers : int, optional
        Processes that look into files for their number of frames.
    shard : int
        Images of a part.

    Returns
    -------
    summary : Summary
        What the results hold.
    notes : tuple of str
        What was passed over.

    Raises
    ------
    UserError
        If another command's job is unfinished there, another process works on this one, or the disk is full; what was
        finished is kept.
    """
    check_out(out)
    for path in asked.paths:
        if path != inputs.STANDARD_INPUT and Path(path).resolve() == out.resolve():
            raise UserError(
                f"--out is {out}, which is also a table to read.", "another file.", "Choose another --out."
            )
    parts = out.with_name(f"{out.name}.parts")
    with files.claimed(parts / "lock") as free:
        if not free:
            raise UserError(
                f"Another process is writing {out}.",
                "one at a time.",
                "Wait for it, or choose another --out.",
            )
        todo = _listed(asked, parts, layout(()).schema.names, lines, workers, shard)
        wanted = layout(todo.carried)
        left = [number for number in range(len(todo.sizes)) if not _part(parts, number).exists()]
        if len(left) < len(todo.sizes):
            done = len(todo) - sum(todo.sizes[number] for number in left)
            say(f"{done:,} of {counted(len(todo), 'image')} are done already.")
        for number, table in compute(wanted, todo, left):
            with files.atomic(_part(parts, number)) as temporary:
                pyarrow.parquet.write_table(table, temporary, compression="zstd")
        every = (_part(parts, number) for number in range(len(todo.sizes)))
        summary = join(every, len(todo), wanted.schema, out)
        # First what makes a rest of this folder a job's.
        todo.path.unlink()
        shutil.rmtree(parts)
    return summary, todo.notes


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:08d}.parquet"


def _listed(
    asked: Asked, parts: Path, taken: Sequence[str], lines: Iterable[str], workers: int | None, shard: int
) -> Spool:
    """Return the list of an earlier run of the same job, or make it."""
    path = parts / "images.parquet"
    key = json.loads(json.dumps(asked.key(shard)))
    found = spool.read(path)
    if found is None:
        for rest in parts.glob("*.parquet"):  # of a job whose results are written
            rest.unlink()
        try:
            return inputs.gather(asked.paths, path, shard, key, taken, lines, workers)
        except UserError:
            with contextlib.suppress(OSError):
                shutil.rmtree(parts)
            raise
    other = [words for name, words in _ASKED.items() if found.key.get(name) != key[name]]
    if other:
        raise UserError(
            f"{parts} holds an unfinished job for other words: {' and '.join(other)} "
            f"{'was' if len(other) == 1 else 'were'} not the same.",
            f"the same command (then: {_shown(found.key, key)}).",
            f"Repeat that command, choose another --out, or remove {parts} to begin anew.",
        )
    return found


def _shown(before: dict[str, Any], now: dict[str, Any]) -> str:
    said = []
    for name, words in _ASKED.items():
        value = before.get(name)
        if value != now[name]:
            said.append(f"{words} {', '.join(value) if isinstance(value, list) else value or 'none'}")
    return "; ".join(said)
