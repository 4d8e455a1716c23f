"""The sentences of a study's report, and its key figures."""

from collections import Counter
from typing import Any

import numpy as np

from freezeframe.evaluation import metrics
from freezeframe.evaluation.intervals import Estimate, wilson
from freezeframe.report.language import Language
from freezeframe.report.study_words import (
    axis_word,
    metric_title,
    metric_word,
    searched,
    setting_name,
    several,
)
from freezeframe.study.findings import Findings
from freezeframe.study.settings import Setting


def title(findings: Findings, language: Language) -> str:
    """Say what the study varied."""
    axes = [axis_word(axis, language) for axis in several(findings)]
    name = findings.results.name
    key = "study_search_title" if searched(findings) else "study_title"
    return language.text(key, name=name, axes=language.enumerate(axes)) if axes else name


def answer(findings: Findings, language: Language) -> str:
    """Say in one sentence which setting is the best, and how many are not told from it."""
    best = findings.best
    if best is None:
        return language.text("study_answer_none", count=len(findings.results.cells))
    metric = findings.compared
    said = language.text(
        "study_answer_best",
        best=setting_name(best, findings, language),
        metric=metric_word(metric, language),
        value=_with_interval(best.test.get(metric), language),
    )
    if findings.main is None:
        return said
    others, equal = len(findings.main.comparisons), findings.indistinguishable
    if not equal:
        return f"{said} {language.text('study_answer_alone', count=others)}"
    parts = [said, language.text("study_answer_equal", count=len(equal), others=others)]
    known = [setting for setting in (*equal, best) if setting.costs["parameters"] is not None]
    cheapest = min(known, key=lambda setting: setting.costs["parameters"] or 0.0, default=None)
    if cheapest is not None and cheapest.costs["parameters"] != best.costs["parameters"]:
        parts.append(
            language.text(
                "study_answer_cheapest",
                name=setting_name(cheapest, findings, language),
                trained=_trained(cheapest, language),
                best=_trained(best, language),
            )
        )
    return " ".join(parts)


def cards(findings: Findings, language: Language) -> list[dict[str, Any]]:
    """Return the key figures, as those of an evaluation's report."""
    made = []
    best, metric = findings.best, findings.compared
    if best is not None and best.test.get(metric) is not None:
        found = best.test[metric]
        name = setting_name(best, findings, language)
        card: dict[str, Any] = {
            "title": metric_title(metric, language),
            "value": language.number(found.value),
            "meaning": language.text("study_meaning_best", best=name),
            "range": "",
        }
        if found.value is not None and found.low is not None and found.high is not None:
            card["range"] = language.interval(found.low, found.high)
            card |= {"left": round(100 * found.low, 2), "width": round(100 * (found.high - found.low), 2)}
            card["at"] = round(min(100 * found.value, 99.2), 2)
        made.append(card)
    if findings.main is not None:
        value = language.text(
            "study_of", part=len(findings.main.indistinguishable), all=len(findings.main.comparisons)
        )
        made.append(_card("study_card_equal", value, "study_meaning_equal", language))
    half = half_width(findings)
    if half is not None:
        points = f"±\u202f{language.number(100 * half, 1)}"
        made.append(
            _card("study_card_width", points, "study_meaning_width", language, images=tested(findings))
        )
    done, planned = len(findings.results.finished), len(findings.results.cells)
    seconds = findings.results.progress.get("seconds")
    meaning = "study_meaning_seconds" if seconds is not None else "study_meaning_trainings"
    values = {"seconds": language.duration(seconds)} if seconds is not None else {}
    value = language.text("study_of", part=done, all=planned)
    made.append(_card("study_card_trainings", value, meaning, language, **values))
    return made


def _card(title: str, value: str, meaning: str, language: Language, **values: Any) -> dict[str, Any]:
    return {
        "title": language.text(title),
        "value": value,
        "meaning": language.text(meaning, **values),
        "range": "",
    }


def tested(findings: Findings) -> int:
    """Count the images that the best setting was tested on, over all folds."""
    best = findings.best
    own = {} if best is None else {cell.fold: cell.predictions.get("test") for cell in best.cells}
    return sum(len(one.labels) for one in own.values() if one is not None)


def half_width(findings: Findings) -> float | None:
    """Return half the 95 % interval of the best setting's accuracy: what so many test images can't resolve.

    Patients count, not images, where a patient has several (Wilson's interval, conservative).
    """
    best = findings.best
    accuracy = best.test.get("accuracy") if best else None
    if best is None or accuracy is None or accuracy.value is None:
        return None
    own = {cell.fold: cell.predictions["test"] for cell in best.cells if "test" in cell.predictions}
    patients = sum(len(np.unique(one.patients)) for one in own.values())
    low, high = wilson(accuracy.value * patients, patients)
    return (high - low) / 2


def claims(findings: Findings, language: Language) -> tuple[str, ...]:
    """Say what a reader of the largest number would claim, and what survives."""
    best, metric = findings.best, findings.compared
    half = half_width(findings)
    if best is None or half is None:
        return ()
    said = [
        language.text(
            "study_claim_width",
            count=tested(findings),
            width=language.number(100 * half, 1),
            accuracy=language.percent(best.test["accuracy"].value),
        )
    ]
    known = [one for one in findings.ranked if metric in one.test and one.test[metric].value is not None]
    if len(known) < 2:
        return tuple(said)
    highest = max(known, key=lambda one: one.test[metric].value or 0.0)
    values = {
        "highest": setting_name(highest, findings, language),
        "metric": metric_word(metric, language),
        "value": language.number(highest.test[metric].value),
        "best": setting_name(best, findings, language),
    }
    if highest is best:
        said.append(language.text("study_claim_same", **values))
    elif findings.main is not None and highest.name in findings.main.comparisons:
        found = findings.main.comparisons[highest.name]
        told = highest.name not in findings.main.indistinguishable
        values["difference"] = _signed_interval(found.difference, found.low, found.high, language)
        said.append(language.text("study_claim_told" if told else "study_claim_luck", **values))
        leaves_out_zero = found.low is not None and found.high is not None and found.low * found.high > 0
        if not told and leaves_out_zero and findings.main.retrained:
            said.append(language.text("study_claim_seeds"))
        elif not told and leaves_out_zero:
            said.append(language.text("study_claim_many"))
    return tuple(said)


def differences(findings: Findings, language: Language) -> tuple[str, ...]:
    """Say how many differences from the best are left after correction, and which settings are as good."""
    main = findings.main
    if main is None or findings.best is None:
        return ()
    p_values = {name: one.p_retrained if main.retrained else one.p for name, one in main.comparisons.items()}
    alone = sum(p is not None and p < 0.05 for p in p_values.values())
    survive = len(main.comparisons) - len(main.indistinguishable)
    said = [
        language.text(
            "study_differences_intro",
            best=setting_name(findings.best, findings, language),
            metric=metric_title(findings.compared, language),
        ),
        language.text("study_survive", count=survive, others=len(main.comparisons), alone=alone),
    ]
    if main.retrained:
        said.append(language.text("study_retrained_note"))
    if findings.indistinguishable:
        names = [setting_name(one, findings, language) for one in findings.indistinguishable]
        shown = language.enumerate(names if len(names) <= 12 else [*names[:11], language.text("study_more")])
        said.append(language.text("study_equal_names", names=shown))
    compared = {*main.comparisons, main.best}
    left_out = [one for one in findings.settings if one.cells and one.name not in compared]
    if left_out:
        names = [setting_name(one, findings, language) for one in left_out]
        said.append(language.text("study_left_out", names=language.enumerate(names)))
    return tuple(said)


def states(findings: Findings, language: Language) -> str:
    """Count the trainings by state."""
    counts = Counter(cell.status for cell in findings.results.cells)
    parts = [
        language.text(f"study_count_{state}", count=counts[state])
        for state in ("finished", "failed", "pruned", "begun", "waiting")
        if counts[state]
    ]
    return language.text("study_states", states=language.enumerate(parts))


def methods(findings: Findings, language: Language) -> tuple[str, ...]:
    """Say how the figures were made."""
    own = "search" if searched(findings) else "effects"
    keys = ["choice", "interval", "paired", "holm", own, "front"]
    if findings.results.metric in metrics.LOWER_IS_BETTER:
        keys.append("lower")
    return tuple(language.text(f"study_how_{key}") for key in keys)


def _with_interval(found: Estimate | None, language: Language) -> str:
    if found is None or found.value is None:
        return language.number(None)
    if found.low is None:
        return language.number(found.value)
    return f"{language.number(found.value)} ({language.interval(found.low, found.high)})"


def _signed_interval(value: float, low: float | None, high: float | None, language: Language) -> str:
    if low is None or high is None:
        return language.signed(value)
    return f"{language.signed(value)} ({language.signed(low)} {language.text('to')} {language.signed(high)})"


def _trained(setting: Setting, language: Language) -> str:
    parameters, total = setting.costs["parameters"], setting.total_parameters
    if parameters is None:
        return language.number(None)
    # Networks differ in size, so a share alone would not say which trains less.
    count = language.integer(int(parameters))
    return count if not total else f"{count} ({language.percent(parameters / total)})"
