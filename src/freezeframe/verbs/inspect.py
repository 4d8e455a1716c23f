"""Tell what a careful person would want to know of a data set before training on it."""

# What pandas says of the types of its columns is too wide for these checks.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freezeframe import files
from freezeframe.data import leakage
from freezeframe.data.manifest import SPLITS, Manifest
from freezeframe.data.shortcuts import Shortcut, cramers_v, find_shortcuts
from freezeframe.data.sources import read_manifest
from freezeframe.data.splits import find_overlap
from freezeframe.errors import UserError
from freezeframe.imaging.fingerprint import Fingerprint, fingerprint
from freezeframe.imaging.workers import map_images
from freezeframe.progress import say
from freezeframe.recipe import DataSource
from freezeframe.verbs.inspection import FLAGS, Finding, Inspection, known
from freezeframe.verbs.inspection_page import write_page
from freezeframe.verbs.inspection_words import words

# An interval that lies wholly above this is a warning: 0.7 is where a feature alone begins to carry a diagnosis.
SHORTCUT_AUC = 0.7
CONFOUNDED, IMBALANCED, FEW = 0.3, 3.0, 10
MEASURED = [field.name for field in fields(Fingerprint) if field.name not in ("thumbnail", "pixel_hash")]


def inspect(
    data: DataSource | str | Path, out: str | Path | None = None, lang: str = "en", workers: int | None = None
) -> Inspection:
    """Inspect a data set: counts, unreadable images, duplicates, overlaps between splits, and shortcuts.

    Parameters
    ----------
    data : DataSource, str or Path
        The ``data`` of a recipe, or a folder or table.
    out : str or Path, optional
        Folder for ``inspection.json``, ``images.csv``, ``duplicates.csv`` and ``inspection.html``; nothing is
        written where it is left out.
    lang : {"en", "es"}
        Language of the page.
    workers : int, optional
        Number of decoding processes; one a core where left out.

    Returns
    -------
    Inspection
        All that was found.

    Raises
    ------
    UserError
        If there are no images, or none can be read.

    Examples
    --------
    >>> import freezeframe
    >>> freezeframe.inspect("images/").duplicates  # doctest: +SKIP
    """
    words(lang)  # an unknown language is refused before the work, not after it
    source = data if isinstance(data, DataSource) else DataSource.model_validate(str(data))
    manifest = read_manifest(source)
    rows, prints, unreadable = _measure(manifest, workers)
    table = manifest.table.iloc[rows].reset_index(drop=True)
    images = table[["image", "label", "patient", "site", "split"]].copy()
    for name in MEASURED:
        images[name] = [getattr(one, name) for one in prints]
    images["bytes_per_pixel"] = images["file_bytes"] / (images["width"] * images["height"])
    images["aspect_ratio"] = images["width"] / images["height"]
    if len(prints) > 2000:
        say("Looking for duplicates: this takes some seconds for each 1,000 images.")
    thumbnails = np.stack([one.thumbnail for one in prints])
    keys = manifest.keys()
    pairs = leakage.find_duplicates(
        [keys[row] for row in rows],
        [one.pixel_hash for one in prints],
        thumbnails,
        images[["width", "height"]].to_numpy(),
    )
    images["duplicate_group"] = leakage.group(len(images), pairs)
    duplicates = _describe(pairs, images)
    shortcuts = tuple(find_shortcuts(images, manifest.classes))
    inspection = Inspection(
        manifest=manifest,
        findings=_findings(manifest, images, duplicates, unreadable, shortcuts),
        counts=_count_classes(manifest),
        sites=_count(table[table["site"] != ""], ["site", "label"]),
        sizes=_count(images, ["width", "height"]),
        modes=_count(images, ["mode", "bits", "channels"]),
        unreadable=unreadable,
        images=images,
        duplicates=duplicates,
        shortcuts=shortcuts,
    )
    if out is not None:
        _write(inspection, Path(out), lang)
    return inspection


def _measure(manifest: Manifest, workers: int | None) -> tuple[list[int], list[Fingerprint], pd.DataFrame]:
    rows, prints, reasons = [], [], []
    names = manifest.table["image"].tolist()
    for row, outcome in map_images(fingerprint, manifest.references(), what="Inspecting", workers=workers):
        if isinstance(outcome, Fingerprint):
            rows.append(row)
            prints.append(outcome)
        else:
            reasons.append((names[row], outcome.reason))
    if not prints:
        shown = "; ".join(f"{name}: {reason}" for name, reason in reasons[:5])
        raise UserError(f"None of the {len(names):,} images can be read: {shown}", action="Check the files.")
    return rows, prints, pd.DataFrame(reasons, columns=["image", "reason"])


def _describe(pairs: list[leakage.Duplicate], images: pd.DataFrame) -> pd.DataFrame:
    first = images.iloc[[pair.first for pair in pairs]].reset_index(drop=True)
    second = images.iloc[[pair.second for pair in pairs]].reset_index(drop=True)
    table = pd.DataFrame(
        {
            "first": first["image"],
            "second": second["image"],
            "kind": [pair.kind for pair in pairs],
            "similarity": [round(pair.similarity, 4) for pair in pairs],
            "group": first["duplicate_group"],
        }
    )
    for column in ("split", "patient", "label"):
        table[f"{column}_first"], table[f"{column}_second"] = first[column], second[column]
        known = (first[column] != "") & (second[column] != "")
        name = {"split": "across_splits", "patient": "across_patients", "label": "conflicting_labels"}[column]
        table[name] = known & (first[column] != second[column])
    return table.sort_values(list(FLAGS), ascending=False, kind="stable").reset_index(drop=True)


def _findings(
    manifest: Manifest,
    images: pd.DataFrame,
    duplicates: pd.DataFrame,
    unreadable: pd.DataFrame,
    shortcuts: Iterable[Shortcut],
) -> tuple[Finding, ...]:
    found: list[Finding] = []

    def add(level: str, key: str, **values: Any) -> None:
        found.append(Finding(level, key, values))

    patients = [overlap for overlap in find_overlap(manifest) if overlap.kind == "patient"]
    if patients:
        add("serious", "patients_overlap", count=len(patients), names=_some(one.name for one in patients))
    exact = duplicates["kind"].isin(["file", "pixels"])
    for flag, key in zip(
        FLAGS, ("duplicates_splits", "duplicates_patients", "duplicates_labels"), strict=True
    ):
        rows = duplicates[flag]
        if rows.any():
            example = duplicates[rows].iloc[0]
            level = "caution" if flag == "across_patients" else "serious"
            add(
                level,
                key,
                count=int(rows.sum()),
                exact=int((rows & exact).sum()),
                example=f"{example['first']} = {example['second']}",
            )
    strong = [one for one in shortcuts if one.low >= SHORTCUT_AUC and one.split in ("train", "")]
    for one in strong[:5]:
        add("serious", "shortcut", **asdict(one))
    if len(strong) > 5:
        add("note", "shortcuts_more", count=len(strong) - 5)
    _add_confounding(add, images)
    if len(unreadable):
        first = unreadable.iloc[0]
        add("caution", "unreadable", count=len(unreadable), example=f"{first['image']}: {first['reason']}")
    _add_sizes_of_classes(add, manifest)
    inside = int((~duplicates["across_splits"]).sum())
    if inside:
        near = int((~duplicates["across_splits"] & ~exact).sum())
        add("caution", "duplicates_inside", count=inside, near=near)
    if not known(manifest.table["patient"]):
        add("caution", "patients_unknown")
    if images["channels"].nunique() > 1:
        colour = int((images["channels"] == 3).sum())
        add("note", "colour_mixed", colour=colour, grey=len(images) - colour)
    order = ("serious", "caution", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def _add_confounding(add: Any, images: pd.DataFrame) -> None:
    known = images[(images["site"] != "") & (images["label"] != "")]
    if known["site"].nunique() > 1 and known["label"].nunique() > 1:
        association = cramers_v(known["site"].tolist(), known["label"].tolist())
        if association >= CONFOUNDED:
            add(
                "serious", "site_confounded", association=round(association, 3), sites=known["site"].nunique()
            )


def _add_sizes_of_classes(add: Any, manifest: Manifest) -> None:
    table = manifest.table
    counts = table[table["label"] != ""]["label"].value_counts()
    if len(counts) == 1:
        add("serious", "one_class", label=str(counts.index[0]))
    if len(counts) > 1 and counts.iloc[0] >= IMBALANCED * counts.iloc[-1]:
        add(
            "caution",
            "imbalanced",
            large=str(counts.index[0]),
            small=str(counts.index[-1]),
            ratio=round(float(counts.iloc[0] / counts.iloc[-1]), 1),
        )
    if not (table["split"] != "").any():
        return
    for split in SPLITS:
        part = (
            table[table["split"] == split]["label"]
            .value_counts()
            .reindex(list(manifest.classes), fill_value=0)
        )
        if part.sum() == 0:
            add("caution", "split_missing", split=split)
        elif part.min() < FEW:
            add("caution", "split_small", split=split, label=str(part.idxmin()), count=int(part.min()))


def _count_classes(manifest: Manifest) -> pd.DataFrame:
    grouped = manifest.table.groupby(["split", "label"], sort=False)
    counts = grouped.agg(images=("image", "size"), patients=("patient", known)).reset_index()
    counts["order"] = [(*SPLITS, "").index(split) for split in counts["split"]]
    return counts.sort_values(["order", "label"]).drop(columns="order").reset_index(drop=True)


def _count(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    counts = table.groupby(columns).size().rename("images").reset_index()
    return counts.sort_values(["images", *columns], ascending=[False, *([True] * len(columns))]).reset_index(
        drop=True
    )


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:5]) + (" ..." if len(every) > 5 else "")


def _write(inspection: Inspection, folder: Path, lang: str) -> None:
    files.write_json(folder / "inspection.json", inspection.to_dict())
    files.write_text(folder / "images.csv", inspection.images.to_csv(index=False, float_format="%.6g"))
    files.write_text(folder / "duplicates.csv", inspection.duplicates.to_csv(index=False))
    write_page(inspection, folder / "inspection.html", lang)
