"""From a trained ensemble to one checked folder: graphs, reference, description, parity, cards, seal."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from freezeframe import files
from freezeframe.bundle import card as cards
from freezeframe.bundle.codes import codes_for, write_table
from freezeframe.bundle.graphs import Graph, member_graph
from freezeframe.bundle.measuring import labelled, measure, settle
from freezeframe.bundle.options import Options
from freezeframe.bundle.parity import check_parity, choose_images
from freezeframe.bundle.runtime.contents import CONTENTS, Class, Contents, Intended, Member
from freezeframe.bundle.runtime.folder import open_bundle, sign
from freezeframe.bundle.runtime.predictor import Predictor
from freezeframe.bundle.runtime.seal import seal
from freezeframe.bundle.staging import staged
from freezeframe.bundle.training_images import Seen, look_at
from freezeframe.ensemble.folder import Ensemble, read_ensemble
from freezeframe.errors import UserError
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.progress import progress, say
from freezeframe.recipe import Recipe
from freezeframe.training.run import BEST, environment

NO_LICENCE = "The maker of this bundle has not said under which licence it may be used.\n"
PARITY = "parity.parquet"
_LONGEST_NAME = 60


def export(folder: Path, out: Path, options: Options) -> Path:
    """Export an ensemble, or a run, to a bundle.

    Parameters
    ----------
    folder : Path
        Of the ensemble or run.
    out : Path
        Of the bundle: a folder, or a file that ends in ``.ffb``. It appears whole, checked and sealed, or not at all.
    options : Options
        What is asked.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UserError
        If something that was given is wrong, or images are not to be had.
    FreezeframeError
        If the bundle does not answer as the training model does.
    """
    ensemble = _with_plain_names(read_ensemble(Path(folder)))
    validation = labelled(ensemble, "validation", options.positive)
    if validation is None:
        raise UserError(
            f"{ensemble.folder} has no labelled validation images.",
            "some, to hold the bundle against the training model.",
            "Train with a validation split.",
        )
    ensemble, points = settle(ensemble, validation, options)
    codes = codes_for(ensemble.classes, options.codes)
    measured = measure(ensemble, points, options)
    with staged(Path(out)) as place:
        graphs = _export_members(ensemble)
        preprocessings = [
            Preprocessing.from_dict(member.details["preprocessing"]) for member in ensemble.members
        ]
        seen = Seen((None,) * len(graphs), Intended(), 0)
        if options.screening:
            models = [graph.model for graph in graphs]
            seen = look_at(ensemble.members[0].manifest, models, preprocessings)
            _say_found(seen)
        contents = Contents(
            name=options.name,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            versions={"python": environment()["python"], **environment()["packages"]},
            classes=tuple(Class(label=label, code=codes[label]) for label in ensemble.classes),
            members=_write_members(place, ensemble, graphs, preprocessings, seen),
            rule=ensemble.rule,
            temperature=ensemble.temperature,
            operating_points=points,
            intended=_intended(options, seen.intended),
            licence=_first_line(options.licence),
        )
        files.write_text(
            place / "LICENSE.txt", options.licence.strip() + "\n" if options.licence else NO_LICENCE
        )
        files.write_text(place / "codes.csv", write_table(codes))
        contents = _hold_to_parity(place, ensemble, contents)
        missing = {
            member.name: graph.no_heat_because
            for member, graph in zip(ensemble.members, graphs, strict=True)
            if graph.heat is None
        }
        card = cards.describe(ensemble, contents, options.purpose.use, measured, seen.with_header, missing)
        cards.write_cards(place, card)
        seal(place)
        if options.secret_key is not None:
            sign(place, options.secret_key, options.password)
        else:
            open_bundle(place)
    return Path(out)


def _export_members(ensemble: Ensemble) -> list[Graph]:
    graphs = []
    with progress("Exporting", len(ensemble.members), "networks") as advance:
        for member in ensemble.members:
            own = Preprocessing.from_dict(member.details["preprocessing"])
            graphs.append(
                member_graph(
                    Recipe.read(member.folder / "recipe.yaml"),
                    member.classes,
                    member.folder / BEST,
                    (own.height, own.width),
                    ensemble.classes,
                )
            )
            advance(1)
    return graphs


def _write_members(
    place: Path,
    ensemble: Ensemble,
    graphs: Sequence[Graph],
    preprocessings: Sequence[Preprocessing],
    seen: Seen,
) -> tuple[Member, ...]:
    members = []
    for run, graph, own, reference in zip(
        ensemble.members, graphs, preprocessings, seen.references, strict=True
    ):
        name = run.name
        path = f"members/{name}.onnx"
        files.write_bytes(place / path, graph.model)
        heat = seen_as = None
        if graph.heat is not None:
            heat = f"members/{name}.heat.{'onnx' if graph.heat_is_graph else 'safetensors'}"
            files.write_bytes(place / heat, graph.heat)
        if reference is not None:
            seen_as = f"members/{name}.reference.safetensors"
            files.write_bytes(place / seen_as, reference)
        members.append(
            Member(
                name=name,
                backbone=run.details["backbone"],
                weight=ensemble.weights[name],
                graph=path,
                preprocessing=own.to_dict(),
                heat=heat,
                reference=seen_as,
            )
        )
    return tuple(members)


def _with_plain_names(ensemble: Ensemble) -> Ensemble:
    """Call the members by names that files can have everywhere."""
    names: dict[str, str] = {}
    for number, member in enumerate(ensemble.members, start=1):
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", member.name).lstrip("._-")[:_LONGEST_NAME] or "member"
        taken = {name.casefold() for name in names.values()}
        names[member.name] = f"{plain}-{number}" if plain.casefold() in taken else plain
    return replace(
        ensemble,
        members=tuple(replace(member, name=names[member.name]) for member in ensemble.members),
        weights={names[name]: weight for name, weight in ensemble.weights.items()},
    )


def _intended(options: Options, found: Intended) -> Intended:
    """Take what was said, and what was found where nothing was said."""
    said = options.purpose.model_dump(include=set(Intended.model_fields), exclude_defaults=True)
    return Intended(**(found.model_dump(exclude_defaults=True) | said))


def _say_found(seen: Seen) -> None:
    if not seen.with_header:
        return
    found = seen.intended
    parts = [
        f"{words} {', '.join(values)}"
        for words, values in (
            ("modality", found.modalities), ("body part", found.body_parts), ("view", found.views)
        )
        if values
    ]  # fmt: skip
    if found.ages:
        parts.append(f"ages {found.ages[0]:g} to {found.ages[1]:g}")
    say(f"DICOM headers of {seen.with_header:,} training images: {'; '.join(parts)}. Others will be flagged.")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:200]


def _hold_to_parity(place: Path, ensemble: Ensemble, contents: Contents) -> Contents:
    """Write the description, open what was written as everybody will, and hold it against the training model."""
    files.write_json(place / CONTENTS, contents.model_dump(mode="json"))
    seal(place)
    images = choose_images(ensemble.members[0].manifest.subset("validation"))
    parity = check_parity(ensemble, Predictor(open_bundle(place)), images)
    with files.atomic(place / PARITY) as temporary:
        parity.table.to_parquet(temporary, index=False)
    contents = contents.model_copy(update={"parity": parity.to_dict()})
    files.write_json(place / CONTENTS, contents.model_dump(mode="json"))
    return contents
