"""The words and number formats of a report, in English and Spanish."""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from freezeframe.errors import UserError

LANGUAGES = ("en", "es")
FILES = ("{code}.json", "study.{code}.json")
"""Of a language: the words of an evaluation's report and of all pages, and those of a study's."""
NARROW_SPACE = "\u202f"
MISSING = "–"


@dataclass(frozen=True)
class Language:
    """Messages and number formats of one language.

    Attributes
    ----------
    code : str
        ``"en"`` or ``"es"``; the page's `lang` attribute.
    messages : dict
        A sentence by key; one with plural forms is a mapping with ``one`` and ``other``, chosen by `count`.
    notes : tuple of (pattern, sentence)
        Translations of the English sentences that a manifest carries, by regular expression.
    note_parts : tuple of (pattern, words)
        Translations of what the groups of these expressions hold, where it is not a name.

    Examples
    --------
    >>> load("es").number(0.9751, 3), load("en").percent(0.9751), load("es").integer(12345)
    ('0,975', '97.5%', '12\u202f345')
    """

    code: str
    messages: dict[str, Any]
    notes: tuple[tuple[str, str], ...]
    note_parts: tuple[tuple[str, str], ...]

    def text(self, key: str, **values: Any) -> str:
        """Return a message with its values put in; whole numbers are grouped, `count` chooses the plural form."""
        message = self.messages[key]
        if isinstance(message, dict):
            message = message["one" if values["count"] == 1 else "other"]
        written = {
            name: self.integer(value) if isinstance(value, int) else value for name, value in values.items()
        }
        return message.format(**written)

    def known(self, key: str, otherwise: str) -> str:
        """Return the message of a key that data may hold, such as a metric's name, or `otherwise`."""
        return str(self.messages.get(key, otherwise))

    def number(self, value: float | None, digits: int = 3) -> str:
        """Write a number with the language's decimal mark and a true minus sign; a dash where there is none."""
        if value is None or value != value:
            return MISSING
        text = f"{value:.{digits}f}"
        if float(text) == 0:
            text = text.lstrip("-")
        return self._marks(text)

    def signed(self, value: float | None, digits: int = 3) -> str:
        """Write a difference, with its sign."""
        text = self.number(value, digits)
        return f"+{text}" if value is not None and value > 0 and float(f"{value:.{digits}f}") != 0 else text

    def integer(self, value: int) -> str:
        """Write a whole number in groups of three digits."""
        if self.code == "es":
            return self._marks(str(value) if abs(value) < 10_000 else f"{value:,}".replace(",", NARROW_SPACE))
        return f"{value:,}".replace("-", "\u2212")

    def percent(self, share: float | None, digits: int = 1) -> str:
        """Write a share in [0, 1] as a percentage."""
        text = self.number(None if share is None else 100 * share, digits)
        return text if text == MISSING else text + ("\u00a0%" if self.code == "es" else "%")

    def interval(self, low: float | None, high: float | None, digits: int = 3) -> str:
        """Write an interval, as ``0.971 to 0.991``."""
        return self.text("interval", low=self.number(low, digits), high=self.number(high, digits))

    def percent_interval(self, low: float | None, high: float | None) -> str:
        """Write an interval of shares as percentages."""
        return self.text("interval", low=self.percent(low), high=self.percent(high))

    def duration(self, seconds: float | None) -> str:
        """Write a duration as a person would."""
        if seconds is None:
            return MISSING
        if seconds < 59.95:
            return self.number(seconds, 1) + "\u00a0s"
        minutes, rest = divmod(round(seconds), 60)
        if minutes < 60:
            return f"{minutes}\u00a0min {rest}\u00a0s"
        return f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"

    def size(self, count: float | None) -> str:
        """Write a number of bytes with a decimal unit."""
        if count is None:
            return MISSING
        for unit in ("B", "kB", "MB", "GB"):
            if count < 999.95:
                return f"{self.number(count, 0 if unit == 'B' else 1)}\u00a0{unit}"
            count /= 1000
        return f"{self.number(count, 1)}\u00a0TB"

    def enumerate(self, names: list[str]) -> str:
        """Join names as a sentence does: ``a, b and c``."""
        if len(names) < 2:
            return "".join(names)
        word = self.text("and")
        # Spanish writes "e" before the sound of i: "a e i", but "a y hielo".
        if self.code == "es" and re.match(r"h?i(?!e)", names[-1].lower()):
            word = "e"
        return f"{', '.join(names[:-1])} {word} {names[-1]}"

    def note(self, sentence: str) -> tuple[str, str]:
        """Translate a manifest's English sentence.

        Returns
        -------
        sentence, code : str
            The sentence, and the language that it is in: English where no translation is known.
        """
        for pattern, translation in self.notes:
            if match := re.fullmatch(pattern, sentence, flags=re.DOTALL):
                return self._expand(match, translation), self.code
        return sentence, "en"

    def _expand(self, match: re.Match[str], translation: str) -> str:
        return re.sub(r"\\(\d)", lambda number: self._part(match[int(number[1])]), translation)

    def _part(self, text: str) -> str:
        for pattern, translation in self.note_parts:
            text = re.sub(pattern, translation, text)
        # Numbers in groups of three that stand alone; not those of a name.
        return re.sub(
            r"(?<![\w'.,-])\d{1,3}(?:,\d{3})+(?![\w'-]|[.,]\w)",
            lambda number: self.integer(int(number[0].replace(",", ""))),
            text,
        )

    def _marks(self, text: str) -> str:
        text = text.replace("-", "\u2212")
        return text.replace(".", ",") if self.code == "es" else text


def check(code: str) -> None:
    """Refuse a language that is not spoken here.

    Raises
    ------
    UserError
        With those that are.
    """
    if code not in LANGUAGES:
        raise UserError(f"There is no language '{code}'.", "en or es.", "Use --lang en or --lang es.")


@cache
def load(code: str) -> Language:
    """Load a language by its code.

    Raises
    ------
    UserError
        If the report does not speak it.
    """
    check(code)
    content: dict[str, Any] = {}
    for name in FILES:
        path = resources.files("freezeframe.report").joinpath("locale", name.format(code=code))
        content |= json.loads(path.read_text(encoding="utf-8"))
    notes, parts = (
        tuple((pattern, words) for pattern, words in content.pop(name, []))
        for name in ("notes", "note_parts")
    )
    return Language(code, content, notes, parts)
