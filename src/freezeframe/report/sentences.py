"""The sentences of a report, and its key figures with their meaning, made from an evaluation's contents."""

from typing import Any

import numpy as np

from freezeframe.report import sections
from freezeframe.report.contents import Contents
from freezeframe.report.language import Language

SIDES = ("sensitivity", "specificity")


def title(contents: Contents, language: Language) -> str:
    """Say what is told apart."""
    names = list(contents.classes)
    if len(names) == 2:
        names = [names[contents.positive], names[1 - contents.positive]]
        return language.text("title_two", positive=names[0], negative=names[1])
    return language.text(
        "title_several", classes=language.enumerate(names) if len(names) <= 5 else len(names)
    )


def answer(contents: Contents, language: Language) -> str:
    """Say in one sentence how well it is told apart, on which images."""
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


def remarks(contents: Contents, language: Language) -> list[str]:
    """Say what the operating point does, and whether the ensemble is better than its best member."""
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


def cards(contents: Contents, language: Language) -> list[dict[str, Any]]:
    """Return the key figures: title, value, meaning, and the interval with its place on a scale in per cent."""
    metrics = contents.metrics["ensemble"]
    if contents.threshold is not None:
        shares = {name: contents.metrics["operating_point"].get(name) for name in SIDES}
    else:
        shares = {name: metrics.get(name) for name in ("accuracy", "balanced_accuracy")}
    shown = {"roc_auc": metrics.get("roc_auc"), **shares}
    shown["expected_calibration_error"] = metrics.get("expected_calibration_error")
    several = len(contents.classes) > 2
    made = []
    for name, record in shown.items():
        found, as_percent = sections.estimate(record), name in shares
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


def data(contents: Contents, language: Language) -> str:
    """Say which images and patients were evaluated."""
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


def members(contents: Contents, language: Language) -> str:
    """Say how many networks there are, and which one the ensemble is compared with."""
    if len(contents.members) == 1:
        return language.text("members_one", member=contents.members[0].name)
    return language.text(
        "members_several", count=len(contents.members), member=sections.best_member(contents)
    )


def calibration(contents: Contents, language: Language) -> list[str]:
    """Say how far the probabilities mean what they say, a sentence a score."""
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
