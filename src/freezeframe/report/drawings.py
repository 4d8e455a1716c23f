"""The figures of a report, chosen and filled from an evaluation's contents."""

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from freezeframe.evaluation.calibration import reliability_curve
from freezeframe.report import figures
from freezeframe.report.contents import Contents
from freezeframe.report.figures import Curve
from freezeframe.report.language import Language
from freezeframe.report.rendering import Drawing
from freezeframe.report.sections import estimate


def ensemble_name(contents: Contents, language: Language) -> str:
    """Name what is evaluated: the ensemble, or its only member."""
    return language.text("ensemble") if len(contents.members) > 1 else next(iter(contents.members)).name


def training_drawings(contents: Contents, language: Language) -> list[Drawing]:
    """Draw the curves of each member that still has them."""
    return [
        figures.training_curves(
            f"training-{index}", member.name, member.curves, member.run.get("best_epoch"), language
        )
        for index, member in enumerate(contents.members, 1)
        if {"epoch", "train_loss"} <= set(member.curves)
    ]


def confusion_drawings(contents: Contents, language: Language) -> list[Drawing]:
    """Draw the confusion matrices: at the operating point, and by the most probable class."""
    every = range(len(contents.classes))
    whole = ensemble_name(contents, language)
    found = []
    if contents.threshold is not None:
        called = contents.probabilities()[:, contents.positive] >= contents.threshold
        at_point = np.where(called, contents.positive, 1 - contents.positive)
        found.append(("confusion-operating-point", language.text("at_point_title", model=whole), at_point))
    if len(contents.members) > 1:
        found.append(
            ("confusion-ensemble", language.text("most_probable_title", model=whole), contents.predicted)
        )
    for index, member in enumerate(contents.members, 1):
        chosen = contents.probabilities(member.name).argmax(axis=1)
        found.append((f"confusion-{index}", language.text("most_probable_title", model=member.name), chosen))
    return [
        figures.confusion(
            name,
            title,
            confusion_matrix(contents.labels, predicted, labels=list(every)),
            contents.classes,
            language,
        )
        for name, title, predicted in found
    ]


def curve_drawings(contents: Contents, language: Language) -> list[Drawing]:
    """Draw ROC and precision-recall curves: of ensemble and members, or of each of many classes."""
    receiver, recall = [], []
    for label, index, member in _ranked(contents, language):
        truth, scores = contents.labels == index, contents.probabilities(member)[:, index]
        if truth.all() or not truth.any():
            continue
        main = member is None and len(contents.classes) == 2
        false, true, _ = roc_curve(truth, scores)
        receiver.append(
            Curve(false, true, _legend(contents, label, index, member, "roc_auc", language), main)
        )
        precision, sensitivity, _ = precision_recall_curve(truth, scores)
        legend = _legend(contents, label, index, member, "average_precision", language)
        # scikit-learn ends at recall 0 with a precision of 1 that no threshold has.
        recall.append(Curve(sensitivity[:-1][::-1], precision[:-1][::-1], legend, main))
    if not receiver:
        return []
    on_roc = on_recall = None
    prevalence = None
    if len(contents.classes) == 2:
        prevalence = float(np.mean(contents.labels == contents.positive))
    if contents.threshold is not None:
        point = contents.metrics["operating_point"]
        sensitivity, specificity, ppv = (
            estimate(point.get(name)).value
            for name in ("sensitivity", "specificity", "positive_predictive_value")
        )
        if sensitivity is not None and specificity is not None:
            on_roc = (1 - specificity, sensitivity)
        if sensitivity is not None and ppv is not None:
            on_recall = (sensitivity, ppv)
    return [
        figures.roc("roc", receiver, on_roc, language),
        figures.precision_recall("precision-recall", recall, on_recall, prevalence, language),
    ]


def calibration_drawing(contents: Contents, language: Language) -> Drawing:
    """Draw the reliability diagram: of the positive class of two, or of the most probable of several."""
    probabilities = contents.probabilities()
    if len(contents.classes) == 2:
        truth, scores = contents.labels == contents.positive, probabilities[:, contents.positive]
        axis = language.text("predicted_probability", label=contents.classes[contents.positive])
    else:
        truth, scores = contents.labels == contents.predicted, probabilities.max(axis=1)
        axis = language.text("predicted_confidence")
    return figures.reliability("reliability", reliability_curve(truth, scores), language, axis)


def cost_drawing(contents: Contents, language: Language) -> Drawing | None:
    """Draw the seconds of each stage, as far as the runs tell them."""
    seconds = {
        member.name: {
            stage: float(value)
            for stage, value in (member.run.get("seconds") or {}).items()
            if stage != "total" and value is not None
        }
        for member in contents.members
    }
    seconds = {name: row for name, row in seconds.items() if row}
    return figures.stages("seconds", seconds, language) if seconds else None


def _ranked(contents: Contents, language: Language) -> list[tuple[str, int, str | None]]:
    if len(contents.classes) > 2:
        return [(label, index, None) for index, label in enumerate(contents.classes)]
    if len(contents.members) == 1:
        return [(contents.members[0].name, contents.positive, None)]
    members = [(member.name, contents.positive, member.name) for member in contents.members]
    return [(language.text("ensemble"), contents.positive, None), *members]


def _legend(
    contents: Contents, label: str, index: int, member: str | None, metric: str, language: Language
) -> str:
    scores = contents.metrics["ensemble"] if member is None else contents.metrics["members"][member]
    name = metric if len(contents.classes) == 2 else f"{metric}/{contents.classes[index]}"
    found = estimate(scores.get(name))
    text = f"{label}: {language.number(found.value)}"
    return text if found.low is None else f"{text} ({language.interval(found.low, found.high)})"
