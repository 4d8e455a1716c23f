"""Make smaller and faster variants of a bundle, and the table to choose from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freezeframe.ensemble.folder import Ensemble, read_ensemble
from freezeframe.errors import UserError, did_you_mean
from freezeframe.progress import say

if TYPE_CHECKING:
    from freezeframe.bundle.runtime.folder import Bundle

FLOAT32, INT8 = "float32", "int8"
VARIANTS = (FLOAT32, INT8, "pruned", "distilled", "distilled-int8")
"""Also 'pruned-int8'."""


@dataclass(frozen=True)
class Wishes:
    """What is asked for besides the names of the variants.

    Attributes
    ----------
    keep : float
        Share of the multiply-adds that pruning keeps.
    epochs : int
        Of the training that recovers what pruning cost.
    student : Path or None
        Recipe of the network that learns from the ensemble; the recipe of its smallest member where left out.
    limit : float
        Of the AUC that a variant may lose.
    export : mapping
        What `freezeframe.export` is told about each bundle.
    """

    keep: float
    epochs: int
    student: Path | None
    limit: float
    export: Mapping[str, Any]


def optimise(
    ensemble: str | Path,
    out: str | Path,
    variants: Sequence[str] = VARIANTS,
    keep: float = 0.5,
    epochs: int = 10,
    student: str | Path | None = None,
    limit: float = 0.01,
    **export: Any,
) -> Path:
    """Export an ensemble in several variants, each a whole bundle, and measure them side by side.

    Parameters
    ----------
    ensemble : str or Path
        Folder of an ensemble or of a run.
    out : str or Path
        Folder of the variants: ``<variant>/`` is a bundle, ``optimise.json`` and ``optimise.md`` are the table, and
        ``runs/`` holds what was trained. The same call again continues a training that was interrupted.
    variants : sequence of str
        'float32' (always made), 'int8', 'pruned', 'distilled', 'pruned-int8', 'distilled-int8'.
    keep : float
        Share of the multiply-adds that 'pruned' keeps.
    epochs : int
        Of the training that recovers what pruning cost.
    student : str or Path, optional
        Recipe of the network that 'distilled' trains; that of the smallest member where left out.
    limit : float
        A variant is offered where the 95 % interval of the AUC that it loses on validation images ends at or below it.
    **export
        What `freezeframe.export` takes besides, such as ``licence``; the name is the ensemble's where left out.

    Returns
    -------
    Path
        ``optimise.json``.

    Raises
    ------
    UserError
        If there is no such variant, or the ensemble can't be exported. A variant that can't be made is no error: the
        table says why.

    Examples
    --------
    >>> import freezeframe
    >>> freezeframe.optimise("runs/all", out="bundles", variants=["float32", "int8"])  # doctest: +SKIP
    PosixPath('bundles/optimise.json')
    """
    from freezeframe.bundle.optimise import TABLE, compare
    from freezeframe.bundle.runtime.folder import open_bundle

    known = tuple(dict.fromkeys([*VARIANTS, *(f"{name}-{INT8}" for name in RETRAINED)]))
    for name in variants:
        if name not in known:
            raise UserError(f"'{name}' is no variant;", action=did_you_mean(name, known))
    made, out = read_ensemble(Path(ensemble)), Path(out).absolute()
    recipe = None if student is None else Path(student)
    wishes = Wishes(keep, epochs, recipe, limit, export | {"name": export.get("name") or made.folder.name})
    _export(made.folder, out / FLOAT32, wishes)
    bundles, not_made = {FLOAT32: out / FLOAT32}, {}
    float32 = open_bundle(out / FLOAT32)
    positive = _positive(made, float32.contents.labels)
    # What was trained anew comes before its int8 variant.
    for name in sorted(set(variants) - {FLOAT32}, key=lambda name: (name.endswith(f"-{INT8}"), name)):
        say(f"Making {name}")
        try:
            bundles[name] = _make(name, made, float32, out, positive, wishes, bundles)
        except UserError as error:
            not_made[name] = str(error)
            say(f"{name} can't be made: {error}")
    order = {name: bundles[name] for name in known if name in bundles}
    manifest = made.members[0].manifest
    members = {member.name: member.weights_sha256 for member in made.members}
    compare(
        order,
        manifest.subset("validation"),
        manifest.subset("test"),
        positive,
        out,
        members,
        limit,
        not_made,
    )
    return out / TABLE


def _export(ensemble: Path, out: Path, wishes: Wishes) -> None:
    from freezeframe.verbs.export import export

    export(ensemble, out, **wishes.export)


def _positive(made: Ensemble, labels: tuple[str, ...]) -> int:
    point = made.operating_point
    return labels.index(point["positive_class"]) if point else len(labels) - 1


def _make(
    name: str,
    made: Ensemble,
    float32: Bundle,
    out: Path,
    positive: int,
    wishes: Wishes,
    done: Collection[str],
) -> Path:
    from freezeframe.bundle.runtime.folder import sign
    from freezeframe.bundle.variants import int8_bundle

    place = out / name
    if name in RETRAINED:
        _retrain(name, made, float32, out, wishes)
        return place
    source = FLOAT32 if name == INT8 else name.removesuffix(f"-{INT8}")
    if source not in done:
        _retrain(source, made, float32, out, wishes)
    int8_bundle(out / source, place, made.members[0].manifest, positive, wishes.limit)
    if wishes.export.get("secret_key") is not None:
        sign(place, Path(wishes.export["secret_key"]), wishes.export.get("password", ""))
    return place


def _retrain(name: str, made: Ensemble, float32: Bundle, out: Path, wishes: Wishes) -> None:
    """Train the runs of a variant, combine them as the ensemble was, and export them."""
    from freezeframe.verbs.ensemble import ensemble

    folder = out / "runs" / name
    runs = RETRAINED[name](made, float32, folder, wishes)
    point = made.operating_point or {}
    rule, target = point.get("rule"), point.get("target")
    ensemble(
        runs,
        folder / "ensemble",
        rule=made.rule if len(runs) > 1 else "mean",
        positive=point.get("positive_class"),
        sensitivity=target if rule == "sensitivity" else None,
        specificity=target if rule == "specificity" else None,
    )
    _export(folder / "ensemble", out / name, wishes)


def _pruned(made: Ensemble, float32: Bundle, folder: Path, wishes: Wishes) -> list[Path]:  # noqa: ARG001
    from freezeframe.verbs.prune import prune

    return [
        prune(member.folder, folder / member.name, keep=wishes.keep, epochs=wishes.epochs)
        for member in made.members
    ]


def _distilled(made: Ensemble, float32: Bundle, folder: Path, wishes: Wishes) -> list[Path]:
    from freezeframe.recipe import Recipe
    from freezeframe.verbs.train import train

    # The bundle's members are in the ensemble's order.
    sizes = [float32.sizes[member.graph] for member in float32.contents.members]
    smallest = made.members[sizes.index(min(sizes))]
    recipe = Recipe.read(wishes.student or smallest.folder / "recipe.yaml")
    return [train(recipe.changed(teacher=str(made.folder)), folder / "student")]


RETRAINED: dict[str, Callable[[Ensemble, Bundle, Path, Wishes], list[Path]]] = {
    "pruned": _pruned,
    "distilled": _distilled,
}
