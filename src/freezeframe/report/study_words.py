"""How a study's report names things: axes, their labels, settings, metrics."""

import math
import re

from freezeframe.report.language import Language
from freezeframe.study.findings import Findings, Setting


def axis_title(axis: str, language: Language) -> str:
    """Name an axis: the word for a field of the recipe, or the study's own name of it."""
    return language.known(f"axis_{axis}", axis)


def axis_word(axis: str, language: Language) -> str:
    """Name an axis inside a sentence."""
    return axis_title(axis, language).lower() if f"axis_{axis}" in language.messages else axis


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
    """Name a setting by its labels on the axes that have several, or a search's trial by its number."""
    if searched(findings):
        return trial_title(trial_number(setting.name), language)
    shown = [label(setting.values[axis], language) for axis in several(findings) if axis in setting.values]
    return " · ".join(shown) or setting.name


def searched(findings: Findings) -> bool:
    """Whether the study is a search: its settings are trials, and a sampled number has no other one beside it."""
    return bool(findings.results.specification.get("search"))


def trial_number(name: str) -> int:
    """Return the number of a search's trial from its name; 0 is the base recipe."""
    return int(name.rpartition("-")[2])


def trial_title(number: int, language: Language) -> str:
    """Name a search's trial."""
    return language.text("study_search_trial" if number else "study_search_base", number=number)


def value_text(value: str | float, language: Language) -> str:
    """Write a value of a searched field: a number with three digits, a choice by its label.

    Examples
    --------
    >>> from freezeframe.report.language import load
    >>> [value_text(value, load("en")) for value in (0.0068731, 1.2345e-5, 64.0, "0.5", "layers 4")]
    ['0.00687', '1.23e−5', '64', '0.5', '4 layers']
    >>> value_text(0.0068731, load("es")), value_text("head", load("es"))
    ('0,00687', 'solo la cabeza')
    """
    number = value_number(value)
    if number is None:
        return label(str(value), language)
    if number.is_integer() and abs(number) < 1e6:
        return language.integer(int(number))
    mantissa, _, exponent = f"{number:.3g}".partition("e")
    text = language.number(float(mantissa), len(mantissa.partition(".")[2]))
    return f"{text}e{language.integer(int(exponent))}" if exponent else text


def value_number(value: str | float) -> float | None:
    """Return a field's value as a number, also where a choice's label is one; None where it is none."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


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
