"""The tables and warnings of a report, made from an evaluation's contents."""

from typing import Any

import numpy as np
import yaml

from freezeframe.evaluation.metrics import OVERALL
from freezeframe.report.contents import Contents, Member
from freezeframe.report.language import Language
from freezeframe.report.tables import Cell, Estimate, Quantity, Table

SPLITS = ("train", "validation", "test", "")
AREAS = ("roc_auc", "average_precision")
METRICS = (*AREAS, *(name for name in OVERALL if name not in AREAS))
SHARES = np.round(np.arange(0.1, 0.95, 0.1), 1)
UNEQUAL = 4.0
"""Ratio of the largest to the smallest class from which accuracy alone misleads."""
BINS = 40


def estimate(record: dict[str, Any] | None, signed: bool = False) -> Estimate:
    """Take an estimate from ``metrics.json``."""
    record = record or {}
    return Estimate(record.get("value"), record.get("low"), record.get("high"), signed)


def images_table(contents: Contents, language: Language) -> Table | None:
    """Count images and patients for each class and split of the training data."""
    if contents.manifest is None:
        return None
    split_of = contents.manifest.table["split"].to_numpy(dtype=str)
    label_of = contents.manifest.table["label"].to_numpy(dtype=str)
    patients = contents.manifest.patients()
    real = ~contents.manifest.added()  # a synthetic image is of no patient
    splits = [split for split in SPLITS if (split_of == split).any()]
    rows: list[tuple[Cell, ...]] = []
    for label in (*contents.manifest.classes, ""):
        own = label_of == label
        if label or own.any():
            counts = [int((own & (split_of == split)).sum()) for split in splits]
            name = label or language.text("unlabelled")
            rows.append((name, *counts, int(own.sum()), len(np.unique(patients[own & real]))))
    everyone = len(np.unique(patients[real]))
    counts = [int((split_of == split).sum()) for split in splits]
    rows.append((language.text("all_classes"), *counts, len(split_of), everyone))
    counts = [len(np.unique(patients[real & (split_of == split)])) for split in splits]
    rows.append((language.text("patients"), *counts, everyone, everyone))
    columns = (
        language.text("class"),
        *(language.text(f"split_{split or 'none'}") for split in splits),
        language.text("images"),
        language.text("patients"),
    )
    return Table("data_set", language.text("images_caption"), columns, tuple(rows))


def warnings(contents: Contents, language: Language) -> list[tuple[str, str]]:
    """List what a careful reader should know of the data, each with the language that it is in."""
    found = []
    counts = np.bincount(contents.labels, minlength=len(contents.classes))
    if counts.min() and counts.max() / counts.min() >= UNEQUAL:
        ratio = language.number(counts.max() / counts.min(), 1)
        values = {"most": contents.classes[counts.argmax()], "least": contents.classes[counts.argmin()]}
        found.append((language.text("warning_unequal", ratio=ratio, **values), language.code))
    if not any(contents.predictions["patient"]):
        found.append((language.text("warning_no_patients"), language.code))
    sentences = list(contents.manifest.notes if contents.manifest else ())
    sentences += [note for note in contents.details.get("notes", []) if note not in sentences]
    for member in contents.members:
        sentences += [note for note in member.run.get("notes", []) if note not in sentences]
    return found + [language.note(sentence) for sentence in sentences]


def members_table(contents: Contents, language: Language) -> Table:
    """Say what each member is, and how well it and the ensemble did."""
    rows: list[tuple[Cell, ...]] = []
    shown = ("roc_auc", "balanced_accuracy")
    for member in contents.members:
        parameters = member.run.get("parameters") or {}
        rows.append(
            (
                member.name,
                str(member.run.get("backbone", "")),
                unfreeze(member, language),
                parameters_cell(parameters, language),
                validation_score(contents, member.name),
                *(estimate(contents.metrics["members"][member.name].get(name)) for name in shown),
            )
        )
    if len(contents.members) > 1:
        scores = [estimate(contents.metrics["ensemble"].get(name)) for name in shown]
        rule = contents.details.get("rule") or ""
        rule = language.known(f"rule_{rule}", rule)
        rows.append(
            (language.text("ensemble"), rule, "", None, validation_score(contents, "ensemble"), *scores)
        )
    columns = ("network", "backbone", "unfrozen", "trained_parameters", "validation_roc_auc", *shown)
    split = contents.metrics.get("split") or ""
    return Table(
        "members",
        language.text("members_caption", split=language.known(f"on_{split}", language.text("on_other"))),
        tuple(language.text(name) for name in columns),
        tuple(rows),
        language.text("validation_note"),
    )


def unfreeze(member: Member, language: Language) -> str:
    """Write what a member trained, in words: ``last block``, ``head``."""
    spec = member.run.get("unfreeze", member.recipe.get("unfreeze"))
    if isinstance(spec, str):
        return language.known(f"unfreeze_{spec}", spec)
    if isinstance(spec, dict) and len(spec) == 1:
        [(kind, value)] = spec.items()
        if kind in ("blocks", "layers"):
            return language.text(f"unfreeze_{kind}", count=int(value))
        if kind == "fraction":
            return language.text("unfreeze_fraction", share=language.percent(float(value), 0))
        return language.text("unfreeze_from", module=str(value))
    return "" if spec is None else yaml.safe_dump(spec, default_flow_style=True).strip()


def parameters_cell(parameters: dict[str, Any], language: Language) -> Quantity | None:
    """Write how many parameters were trained, of how many."""
    if not parameters:
        return None
    trained, total = int(parameters["trainable"]), int(parameters["total"])
    detail = language.text("part_of", all=total, share=language.percent(trained / max(total, 1)))
    return Quantity(trained, language.integer(trained), detail)


def validation_score(contents: Contents, model: str) -> float | None:
    """Return the ROC AUC of a member, or of ``"ensemble"``, on the validation images."""
    return ((contents.details.get("validation") or {}).get(model) or {}).get("roc_auc")


def metrics_table(contents: Contents, language: Language) -> Table:
    """Show every metric of the ensemble and its members, and the difference to the best member."""
    several = len(contents.members) > 1
    difference = contents.metrics.get("difference") or {}
    best = best_member(contents)
    rows: list[tuple[Cell, ...]] = []
    for name in METRICS:
        if name not in contents.metrics["ensemble"]:
            continue
        row: list[Cell] = [language.text(name)]
        if several:
            row.append(estimate(contents.metrics["ensemble"][name]))
        row += [estimate(contents.metrics["members"][member.name].get(name)) for member in contents.members]
        if several:
            row.append(estimate(difference.get(name), signed=True))
        rows.append(tuple(row))
    columns = [language.text("metric"), *([language.text("ensemble")] if several else [])]
    columns += [member.name for member in contents.members]
    if several:
        columns.append(language.text("difference_to", member=best))
    caption = language.text("metrics_caption", positive=contents.classes[contents.positive])
    if len(contents.classes) > 2:
        caption = language.text("metrics_caption_classes")
    return Table("metrics", caption, tuple(columns), tuple(rows), language.text("metrics_note"))


def best_member(contents: Contents) -> str:
    """Name the member that the ensemble is compared with."""
    return str((contents.metrics.get("best_member") or {}).get("name", contents.members[0].name))


def classes_table(contents: Contents, language: Language) -> Table | None:
    """Show the ensemble's scores of each class against the rest, for more than two classes."""
    if len(contents.classes) == 2:
        return None
    names = ("sensitivity", "specificity", "precision", "f1", "roc_auc", "average_precision")
    scores = contents.metrics["ensemble"]
    names = tuple(name for name in names if f"{name}/{contents.classes[0]}" in scores)
    counts = np.bincount(contents.labels, minlength=len(contents.classes))
    rows = tuple(
        (label, int(counts[index]), *(estimate(scores.get(f"{name}/{label}")) for name in names))
        for index, label in enumerate(contents.classes)
    )
    columns = (language.text("class"), language.text("images"), *(language.text(name) for name in names))
    return Table("classes", language.text("classes_caption"), columns, rows)


def sweep(contents: Contents, language: Language) -> dict[str, Any]:
    """Count what each threshold would do, for the slider: exact at every position that it has."""
    several = len(contents.classes) > 2
    wanted = range(len(contents.classes)) if several else (contents.positive,)
    entries = []
    for index in wanted:
        positive, scores = contents.labels == index, contents.probabilities()[:, index]
        start = contents.threshold if contents.threshold is not None else 0.5
        grid = np.unique(np.append(np.round(np.linspace(0, 1, 201), 6), start))
        ups, downs = np.sort(scores[positive]), np.sort(scores[~positive])
        edges = np.linspace(0, 1, BINS + 1)
        entries.append(
            {
                "name": contents.classes[index],
                "other": language.text("other_classes") if several else contents.classes[1 - index],
                "thresholds": grid.tolist(),
                "tp": (len(ups) - np.searchsorted(ups, grid, side="left")).tolist(),
                "fp": (len(downs) - np.searchsorted(downs, grid, side="left")).tolist(),
                "positives": len(ups),
                "negatives": len(downs),
                "start": int(np.searchsorted(grid, start)),
                "histogram": {
                    "positive": np.histogram(ups, edges)[0].tolist(),
                    "negative": np.histogram(downs, edges)[0].tolist(),
                },
            }
        )
    texts = {
        name: language.messages[f"slider_{name}"] for name in ("interval", "of", "none", "truly", "called")
    }
    known = [patient for patient in contents.predictions["patient"] if patient]
    # As in the evaluation, Wilson's interval holds where all patients differ only.
    return {"classes": entries, "texts": texts, "wilson": len(set(known)) == len(known)}


def thresholds_table(contents: Contents, language: Language) -> Table:
    """Tabulate the slider: some thresholds, and the operating point, with all four shares and counts."""
    several = len(contents.classes) > 2
    rows: list[tuple[Cell, ...]] = []
    for index in range(len(contents.classes)) if several else (contents.positive,):
        positive, scores = contents.labels == index, contents.probabilities()[:, index]
        wanted = [0.5] if several else _shown_thresholds(contents.threshold)
        for threshold in wanted:
            called = scores >= threshold
            hits, false = int((called & positive).sum()), int((called & ~positive).sum())
            missed, rejected = int(positive.sum()) - hits, int((~positive).sum()) - false
            name = language.number(threshold)
            if threshold == contents.threshold:
                name = language.text("at_operating_point", threshold=name)
            rows.append(
                (
                    contents.classes[index] if several else Quantity(threshold, name),
                    *(
                        Quantity(value, language.percent(value))
                        for value in (
                            _share(hits, hits + missed),
                            _share(rejected, rejected + false),
                            _share(hits, hits + false),
                            _share(rejected, rejected + missed),
                        )
                    ),
                    hits,
                    missed,
                    false,
                    rejected,
                )
            )
    columns = ("sensitivity", "specificity", "ppv", "npv", "tp", "fn", "fp", "tn")
    return Table(
        "thresholds",
        language.text("thresholds_caption_classes" if several else "thresholds_caption"),
        (language.text("class" if several else "threshold"), *(language.text(name) for name in columns)),
        tuple(rows),
        language.text(
            "prevalence_note", share=language.percent(float(np.mean(contents.labels == contents.positive)))
        )
        if not several
        else "",
    )


def cost_table(contents: Contents, language: Language) -> Table | None:
    """Say what each member cost: seconds a stage, memory, disk, and parameters trained of all."""
    told = [member for member in contents.members if member.run]
    if not told:
        return None
    stages = [
        stage
        for stage in ("store", "training", "prediction", "total")
        if any(_seconds(m, stage) for m in told)
    ]
    rows: list[tuple[Cell, ...]] = []
    for member in told:
        memory, disk = member.run.get("peak_memory_bytes"), member.run.get("store_bytes")
        rows.append(
            (
                member.name,
                *(
                    Quantity(_seconds(member, stage), language.duration(_seconds(member, stage)))
                    for stage in stages
                ),
                Quantity(memory, language.size(memory)),
                Quantity(disk, language.size(disk)),
                parameters_cell(member.run.get("parameters") or {}, language),
            )
        )
    if len(told) > 1:
        sums = [sum(_seconds(member, stage) or 0 for member in told) for stage in stages]
        memory = max(member.run.get("peak_memory_bytes") or 0 for member in told)
        rows.append(
            (
                language.text("all_networks"),
                *(Quantity(value, language.duration(value)) for value in sums),
                Quantity(memory, language.size(memory)),
                None,
                None,
            )
        )
    columns = [language.text("network"), *(language.text(f"stage_{stage}") for stage in stages)]
    columns += [language.text(name) for name in ("peak_memory", "disk", "trained_parameters")]
    return Table(
        "cost", language.text("cost_caption"), tuple(columns), tuple(rows), language.text("cost_note")
    )


def identities_table(contents: Contents, language: Language) -> Table:
    """List the hashes that tell whether two reports are of the same weights."""
    rows = tuple(
        (
            member.name,
            str((member.run.get("weights") or {}).get("source", "")),
            str((member.run.get("weights") or {}).get("sha256", ""))[:16],
            str(member.run.get("weights_sha256", ""))[:16],
            str(member.recipe.get("seed", "")),
        )
        for member in contents.members
    )
    columns = ("network", "pretrained_weights", "pretrained_hash", "trained_hash", "seed")
    return Table(
        "hashes", language.text("hashes_caption"), tuple(language.text(name) for name in columns), rows
    )


def versions_table(contents: Contents, language: Language) -> Table | None:
    """List the software that the first member was trained with."""
    environment = next((member.environment for member in contents.members if member.environment), {})
    rows: list[tuple[Cell, ...]] = []
    for name, value in environment.items():
        if isinstance(value, dict):
            rows += [
                (str(key), str(version))
                for key, version in value.items()
                if not isinstance(version, dict | list)
            ]
        elif name != "schema_version" and not isinstance(value, list):
            rows.append((name, str(value)))
    if not rows:
        return None
    columns = (language.text("component"), language.text("version"))
    return Table("versions", language.text("versions_caption"), columns, tuple(rows))


def _shown_thresholds(chosen: float | None) -> list[float]:
    if chosen is None:
        return SHARES.tolist()
    # One that would be printed like the operating point is left out.
    return sorted([share for share in SHARES.tolist() if abs(share - chosen) >= 0.001] + [chosen])


def _seconds(member: Member, stage: str) -> float | None:
    value = (member.run.get("seconds") or {}).get(stage)
    return None if value is None else float(value)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
