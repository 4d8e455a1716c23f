"""The report as one HTML file, with its figures and tables beside it as files of their own."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import yaml

from freezeframe.evaluation import gallery
from freezeframe.report import drawings as drawing
from freezeframe.report import sections, sentences
from freezeframe.report import variants as variants_of_bundle
from freezeframe.report.contents import Contents
from freezeframe.report.language import MISSING, Language
from freezeframe.report.page import Report, render
from freezeframe.report.pictures import Picture

SECTIONS = (
    "data",
    "members",
    "training",
    "confusion",
    "curves",
    "calibration",
    "threshold",
    "classes",
    "gallery",
    "cost",
    "variants",
    "reproduce",
)
MOST_PICTURES = 32
"""In the whole gallery; with their heat maps they are under a megabyte."""
MOST_CLASSES = 16
"""Classes with a row in the gallery; of more, those with the most wrong images."""


def featured(contents: Contents) -> pd.DataFrame:
    """Choose the gallery's images: see `freezeframe.evaluation.gallery.choose`; column ``row`` is the prediction's.

    Fewer a class are shown where there are many classes, so that the page stays small.
    """
    each = int(np.clip(MOST_PICTURES // (2 * len(contents.classes)), 1, 4))
    chosen = gallery.choose(
        contents.predictions,
        contents.labels,
        contents.probabilities(),
        contents.classes,
        each,
    )
    wrong = np.bincount(
        contents.labels[contents.labels != contents.predicted], minlength=len(contents.classes)
    )
    order = sorted(range(len(contents.classes)), key=lambda index: (-wrong[index], index))
    left_out = [contents.classes[index] for index in order[MOST_CLASSES:]]
    rows = {image: row for row, image in enumerate(contents.predictions["image"])}
    chosen = chosen.drop(chosen.index[[label in left_out for label in chosen["label"]]]).reset_index(
        drop=True
    )
    return chosen.assign(row=[rows[image] for image in chosen["image"]])


def make(
    contents: Contents,
    chosen: pd.DataFrame,
    pictures: Mapping[str, Picture],
    language: Language,
    heat_sentence: str,
    variants: Mapping[str, Any] | None = None,
) -> Report:
    """Make the report.

    Parameters
    ----------
    contents : Contents
        Of the evaluation.
    chosen : DataFrame
        As `featured` returns it.
    pictures : mapping of str to Picture
        By the image's name.
    language : Language
        Of everything that a reader sees.
    heat_sentence : str
        Key of the sentence that says what the heat maps are, or why there are none.
    variants : mapping, optional
        From `freezeframe.report.variants`.
    """
    drawings: dict[str, Any] = {
        "training": drawing.training_drawings(contents, language),
        "confusion": drawing.confusion_drawings(contents, language),
        "curves": drawing.curve_drawings(contents, language),
        "calibration": drawing.calibration_drawing(contents, language),
        "cost": drawing.cost_drawing(contents, language),
    }
    tables = {
        "images": sections.images_table(contents, language),
        "members": sections.members_table(contents, language),
        "metrics": sections.metrics_table(contents, language),
        "thresholds": sections.thresholds_table(contents, language),
        "classes": sections.classes_table(contents, language),
        "cost": sections.cost_table(contents, language),
        "identities": sections.identities_table(contents, language),
        "versions": sections.versions_table(contents, language),
        "variants": None if variants is None else variants_of_bundle.table(variants, language),
    }
    page = render(
        "report.html.j2",
        language,
        title=sentences.title(contents, language),
        answer=sentences.answer(contents, language),
        remarks=sentences.remarks(contents, language),
        cards=sentences.cards(contents, language),
        synthetic=_synthetic(contents),
        sections=[key for key in SECTIONS if key not in ("classes", "variants") or tables[key]],
        data_sentence=sentences.data(contents, language),
        warnings=sections.warnings(contents, language),
        members_sentence=sentences.members(contents, language),
        calibration_sentences=sentences.calibration(contents, language),
        drawings=drawings,
        tables=tables,
        sweep=sections.sweep(contents, language),
        gallery=_gallery(contents, chosen, pictures, language),
        heat_sentence=language.text(heat_sentence),
        paired=any(picture.heat for picture in pictures.values()),
        recipes=[
            {
                "name": member.name,
                "recipe": yaml.safe_dump(member.recipe, sort_keys=False, allow_unicode=True),
            }
            for member in contents.members
            if member.recipe
        ],
    )
    flat = [
        part
        for group in drawings.values()
        for part in (group if isinstance(group, list) else [group])
        if part
    ]
    return Report(page, tuple(flat), tuple(table for table in tables.values() if table), language)


def _synthetic(contents: Contents) -> bool:
    return any(
        "synthetic" in manifest.table
        and manifest.table["synthetic"].astype(str).str.lower().isin(["true", "1", "yes"]).any()
        for manifest in (contents.manifest, contents.evaluated)
        if manifest is not None
    )


def _gallery(
    contents: Contents, chosen: pd.DataFrame, pictures: Mapping[str, Picture], language: Language
) -> list[dict[str, Any]]:
    groups = []
    for label in contents.classes:
        own = [record for record in chosen.to_dict("records") if record["label"] == label]
        if not own:
            continue
        entries = {
            kind: [_entry(contents, record, pictures, language) for record in own if record["kind"] == kind]
            for kind in ("correct", "wrong")
        }
        groups.append({"title": language.text("gallery_class", label=label), **entries})
    return groups


def _entry(
    contents: Contents, record: Mapping[Any, Any], pictures: Mapping[str, Picture], language: Language
) -> dict[str, Any]:
    picture = pictures.get(record["image"], Picture(reason="image_gone"))
    predicted = contents.classes.index(record["predicted"])
    words = {"truth": record["label"], "predicted": record["predicted"]}
    return {
        "name": record["image"],
        "patient": record["patient"] or MISSING,
        "says": language.text(
            "says",
            share=language.percent(min(float(record["probability"]), 1.0)),
            predicted=record["predicted"],
        ),
        "alt": language.text("image_alt", **words),
        "heat_alt": language.text("heat_alt", **words),
        "image": base64.b64encode(picture.image).decode() if picture.image else "",
        "heat": base64.b64encode(picture.heat).decode() if picture.heat else "",
        "reason": language.text(picture.reason) if picture.reason else "",
        "members": [
            (
                member.name,
                language.percent(float(contents.probabilities(member.name)[record["row"], predicted])),
            )
            for member in contents.members
        ],
    }
