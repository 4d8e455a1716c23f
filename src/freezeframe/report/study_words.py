"""How a study's report names things: axes, their labels, settings, metrics."""

import re

from freezeframe.report.language import Language
from freezeframe.study.findings import Findings, Setting


def axis_title(axis: str, language: Language) -> str:
    """Name an axis: the word for a field of the recipe, or the study's own name of it."""
    return language.known(f"axis_{axis}", axis)


def label(text: str, language: Language) -> str:
    """Write a label of an axis; what the recipe's own words mean is said in the reader's language.

    Examples
    --------
    >>> from freezeframe.report.language import load
    >>> label("layers 4", load("en")), label("layers 4", load("es")), label("1e-05", load("es"))
    ('4 layers', '4 capas', '1e-05')
    """
    if counted := re.fullmatch(r"(layers|blocks) (\d+)", text):
        return language.text(f"label_{counted[1]}", count=int(counted[2]))
    return language.known(f"label_{text}", text)


def setting_name(setting: Setting, findings: Findings, language: Language) -> str:
    """Name a setting by its labels on the axes that have several."""
    shown = [label(setting.values[axis], language) for axis in several(findings) if axis in setting.values]
    return " · ".join(shown) or setting.name


def several(findings: Findings) -> list[str]:
    """Name the axes that have more than one label."""
    return [axis for axis, labels in findings.results.axes.items() if len(labels) > 1]


def metric_title(name: str, language: Language) -> str:
    """Name a metric, also that of one class: ``Sensitivity (pneumonia)``."""
    base, _, of_class = name.partition("/")
    title = language.known(base, base)
    return f"{title} ({of_class})" if of_class else title


def metric_word(name: str, language: Language) -> str:
    """Name a metric inside a sentence: ``accuracy``, but ``ROC AUC``."""
    title = metric_title(name, language)
    return title[0].lower() + title[1:] if title[1:2].islower() else title


def probability(p: float | None, language: Language) -> str:
    """Write a p value with three digits, or that it is smaller than they can say."""
    if p is not None and p < 0.001:
        return f"< {language.number(0.001)}"
    return language.number(p)
