"""The report as one HTML file, with its figures and tables beside it as files of their own."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import yaml

from freezeframe import files
from freezeframe.evaluation import gallery
from freezeframe.report import drawings as drawing
from freezeframe.report import sections
from freezeframe.report.contents import Contents
from freezeframe.report.figures import Drawing
from freezeframe.report.language import MISSING, Language
from freezeframe.report.pictures import Picture
from freezeframe.report.tables import Cell, Estimate, Quantity, Table, write

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
    "reproduce",
)
SIDES = ("sensitivity", "specificity")
MOST_PICTURES = 32
"""In the whole gallery; with their heat maps they are under a megabyte."""
MOST_CLASSES = 16
"""Classes with a row in the gallery; of more, those with the most wrong images."""


@dataclass(frozen=True)
class Report:
    """A finished report: the page, and the figures and tables to write beside it."""

    page: str
    drawings: tuple[Drawing, ...]
    tables: tuple[Table, ...]
    language: Language

    def write(self, path: Path) -> None:
        """Write the page, and figures (SVG, PNG) and tables (CSV, LaTeX) into ``<stem>_files/`` beside it."""
        beside = path.parent / f"{path.stem}_files"
        for one in self.drawings:
            files.write_text(beside / "figures" / f"{one.name}.svg", one.svg())
            files.write_bytes(beside / "figures" / f"{one.name}.png", one.png())
        for table in self.tables:
            files.write_text(beside / "tables" / f"{table.name}.csv", table.csv())
            files.write_text(beside / "tables" / f"{table.name}.tex", table.latex(self.language))
        files.write_text(path, self.page)


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
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("freezeframe.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    source = environment.loader.get_source  # type: ignore[union-attr]
    page = environment.get_template("report.html.j2").render(
        language=language.code,
        t=language.text,
        lines=lambda cell: _two_lines(cell, language),
        style=source(environment, "style.css")[0].strip(),
        script=source(environment, "script.js")[0].strip(),
        title=_title(contents, language),
        answer=_answer(contents, language),
        remarks=_remarks(contents, language),
        cards=_cards(contents, language),
        synthetic=_synthetic(contents),
        sections=[key for key in SECTIONS if key != "classes" or tables["classes"]],
        data_sentence=_data_sentence(contents, language),
        warnings=sections.warnings(contents, language),
        members_sentence=_members_sentence(contents, language),
        calibration_sentences=_calibration_sentences(contents, language),
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
    return Report(page + "\n", tuple(flat), tuple(table for table in tables.values() if table), language)


def _two_lines(cell: Cell, language: Language) -> tuple[str, str]:
    if isinstance(cell, Estimate) and cell.low is not None and cell.high is not None:
        number = language.signed if cell.signed else language.number
        bounds = language.text("interval", low=number(cell.low), high=number(cell.high))
        return write(Estimate(cell.value, signed=cell.signed), language), bounds
    if isinstance(cell, Quantity):
        return cell.text, cell.detail
    return write(cell, language), ""


def _synthetic(contents: Contents) -> bool:
    return any(
        "synthetic" in manifest.table
        and manifest.table["synthetic"].astype(str).str.lower().isin(["true", "1", "yes"]).any()
        for manifest in (contents.manifest, contents.evaluated)
        if manifest is not None
    )


def _title(contents: Contents, language: Language) -> str:
    names = list(contents.classes)
    if len(names) == 2:
        names = [names[contents.positive], names[1 - contents.positive]]
        return language.text("title_two", positive=names[0], negative=names[1])
    return language.text(
        "title_several", classes=language.enumerate(names) if len(names) <= 5 else len(names)
    )


def _answer(contents: Contents, language: Language) -> str:
    metrics = contents.metrics["ensemble"]
    area = sections.estimate(metrics.get("roc_auc"))
    values: dict[str, Any] = {
        "model": language.text("answer_ensemble", count=len(contents.members), name=contents.members[0].name),
        "data": language.text(
            "answer_images", count=int(contents.metrics.get("n_images", len(contents.predictions)))
        ),
        "patients": language.text("answer_patients", count=int(contents.metrics.get("n_patients", 0))),
        "area": language.percent(area.value),
        "interval": language.percent_interval(area.low, area.high),
    }
    if len(contents.classes) > 2:
        share = sections.estimate(metrics.get("accuracy"))
        values |= {"accuracy": language.percent(share.value), "classes": len(contents.classes)}
        values["interval"] = language.percent_interval(share.low, share.high)
        return language.text("answer_several", **values)
    values |= {
        "positive": contents.classes[contents.positive],
        "negative": contents.classes[1 - contents.positive],
    }
    return language.text("answer_two", **values)


def _remarks(contents: Contents, language: Language) -> list[str]:
    found = []
    if contents.threshold is not None:
        point = {name: sections.estimate(contents.metrics["operating_point"].get(name)) for name in SIDES}
        values = {
            "positive": contents.classes[contents.positive],
            "negative": contents.classes[1 - contents.positive],
            "sensitivity": language.percent(point["sensitivity"].value),
            "specificity": language.percent(point["specificity"].value),
            "threshold": language.number(contents.threshold),
        }
        found.append(language.text("remark_operating_point", **values))
    difference = sections.estimate((contents.metrics.get("difference") or {}).get("roc_auc"))
    if (
        len(contents.members) > 1
        and difference.value is not None
        and difference.low is not None
        and difference.high is not None
    ):
        kind = "better" if difference.low > 0 else "worse" if difference.high < 0 else "unclear"
        found.append(
            language.text(
                f"remark_{kind}",
                member=sections.best_member(contents),
                value=language.signed(difference.value),
                interval=f"{language.signed(difference.low)} {language.text('to')} {language.signed(difference.high)}",
            )
        )
    return found


def _cards(contents: Contents, language: Language) -> list[dict[str, Any]]:
    metrics = contents.metrics["ensemble"]
    cards: list[tuple[str, Estimate, bool]] = [("roc_auc", sections.estimate(metrics.get("roc_auc")), False)]
    if contents.threshold is not None:
        point = contents.metrics["operating_point"]
        cards += [(name, sections.estimate(point.get(name)), True) for name in SIDES]
        cards.append(
            (
                "expected_calibration_error",
                sections.estimate(metrics.get("expected_calibration_error")),
                False,
            )
        )
    else:
        cards += [
            (name, sections.estimate(metrics.get(name)), True) for name in ("accuracy", "balanced_accuracy")
        ]
        cards.append(
            (
                "expected_calibration_error",
                sections.estimate(metrics.get("expected_calibration_error")),
                False,
            )
        )
    several = len(contents.classes) > 2
    made = []
    for name, found, as_percent in cards:
        low, high = found.low, found.high
        meaning = f"meaning_{name}_several" if several and name == "roc_auc" else f"meaning_{name}"
        card = {
            "title": language.text(name),
            "value": language.percent(found.value) if as_percent else language.number(found.value),
            "meaning": language.text(
                meaning,
                positive=contents.classes[contents.positive],
                negative=contents.classes[1 - contents.positive] if not several else "",
            ),
            "range": "",
        }
        if low is not None and high is not None and found.value is not None:
            interval = language.percent_interval if as_percent else language.interval
            card["range"] = interval(low, high)
            card |= {"left": round(100 * low, 2), "width": round(100 * (high - low), 2)}
            card["at"] = round(min(100 * found.value, 99.2), 2)
        made.append(card)
    return made


def _data_sentence(contents: Contents, language: Language) -> str:
    counts = np.bincount(contents.labels, minlength=len(contents.classes))
    parts = [
        language.text("count_of_class", count=int(count), label=label)
        for label, count in zip(contents.classes, counts, strict=True)
    ]
    split = contents.metrics.get("split") or ""
    return language.text(
        "data_sentence",
        where=language.known(f"evaluated_{split}", language.text("evaluated_other")),
        images=language.text("answer_images", count=len(contents.predictions)),
        patients=language.text("answer_patients", count=int(contents.metrics.get("n_patients", 0))),
        parts=language.enumerate(parts),
    )


def _members_sentence(contents: Contents, language: Language) -> str:
    if len(contents.members) == 1:
        return language.text("members_one", member=contents.members[0].name)
    return language.text(
        "members_several", count=len(contents.members), member=sections.best_member(contents)
    )


def _calibration_sentences(contents: Contents, language: Language) -> list[str]:
    metrics = contents.metrics["ensemble"]
    found = []
    for name in ("expected_calibration_error", "brier_score", "log_loss"):
        score = sections.estimate(metrics.get(name))
        if score.value is not None:
            sentence = language.text(
                "score_sentence", name=language.text(name), value=language.number(score.value)
            )
            if score.low is not None:
                sentence += (
                    f" ({language.text('interval_95', interval=language.interval(score.low, score.high))})"
                )
            found.append(f"{sentence}. {language.text(f'explain_{name}')}")
    return found


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
