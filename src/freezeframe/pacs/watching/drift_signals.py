"""The properties of the newest images that are judged, each against what it is compared with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from freezeframe.pacs.configuration import Drift
from freezeframe.pacs.watching.control_limits import (
    SECONDS_A_YEAR,
    Judgement,
    alpha_of_a_look,
    level,
    rate,
    shape,
)
from freezeframe.pacs.watching.drift_images import Count, Seen, Window
from freezeframe.pacs.watching.drift_reference import Validation

SHORTEST_SPAN = 86400.0
"""Seconds over which images are counted at least, to tell how many a year brings."""
OWN, TRAINING = "own", "training"
_RATES: dict[str, Callable[[Seen], bool]] = {
    "positive rate": lambda seen: seen.positive,
    "warning rate": lambda seen: seen.warned,
}


@dataclass(frozen=True)
class Signal:
    """One property of the newest images, and its control limits.

    Attributes
    ----------
    bundle : str
        Name in the configuration.
    name : str
        Such as ``positive rate (own)``: what the property is, and what it is compared with, ``own`` for the node's
        first images, ``training`` for the bundle's validation images.
    state : str
        ``collecting`` while there are too few images, ``within`` or ``outside`` the limits.
    value, low, high : float or None
        None while collecting. A level is the mean rank among the reference's, 0.5 where alike; a rate is a share; a
        distribution's is its distance from the reference's; all in [0, 1].
    usual, newest : float or None
        Mean of the reference and of the window, in the property's own unit, for a reader.
    images, needed : int
        How many there are of those that a judgement takes.
    since : float or None
        First look, in a row, at which it was outside; None where it is not.
    alarm : bool
        Whether it is outside.
    acknowledged : bool
        Whether somebody has seen the alarm; it is a new one once it was over.
    """

    bundle: str
    name: str
    state: Literal["collecting", "within", "outside"]
    value: float | None
    low: float | None
    high: float | None
    usual: float | None
    newest: float | None
    images: int
    needed: int
    since: float | None = None
    alarm: bool = False
    acknowledged: bool = False

    @property
    def key(self) -> str:
        """What names it among all."""
        return f"{self.bundle}: {self.name}"

    def sentence(self) -> str:
        """Say what is outside of what, or how many images are missing."""
        if self.value is None or self.usual is None or self.newest is None:
            return f"{self.images} of the {self.needed} images that a judgement takes."
        limits = f"limits {self.low:.3f} to {self.high:.3f}"
        return f"{self.value:.3f}, {limits} (mean {self.newest:.4g}, usual {self.usual:.4g})."


def judge(
    bundle: str,
    count: Count,
    images: Window,
    validation: Validation,
    settings: Drift,
    bundles: int,
    now: float,
) -> Iterator[Signal]:
    """Judge every property of a bundle's newest images.

    Parameters
    ----------
    bundle : str
        Name in the configuration.
    count : Count
        Tells how many images come in a year.
    images : Window
        The first and the newest ones.
    validation : Validation
        What the bundle keeps of its validation images.
    settings : Drift
        How many images, and how many false alarms a year.
    bundles : int
        That are watched, which share the false alarms.
    now : float
        Seconds since 1970.
    """
    properties = _properties((*images.baseline, *images.recent))
    a_year = count.images * SECONDS_A_YEAR / max(SHORTEST_SPAN, now - count.first_at)
    # Beside the levels: two rates and the distribution of the scores, and three comparisons with the training.
    judged = (len(properties) + len(_RATES) + 4) * bundles
    alpha = alpha_of_a_look(settings.false_alarms_a_year, a_year, settings.window, judged)

    first, newest, recent = images.baseline, images.newest, images.recent
    there, needed = len(first) + len(newest), settings.baseline + settings.window
    enough = len(first) >= settings.baseline and len(newest) >= settings.window

    def signal(
        name: str, reference: str, new: np.ndarray, usual: np.ndarray | tuple[int, int],
        judgement: Callable[[], Judgement], counts: tuple[int, int], ready: bool,
    ) -> Signal:  # fmt: skip
        full = f"{name} ({reference})"
        if not ready or len(new) == 0 or len(usual) == 0:
            return Signal(bundle, full, "collecting", None, None, None, None, None, *counts)
        found = judgement()
        usual_mean = usual[0] / usual[1] if isinstance(usual, tuple) else float(np.mean(usual))
        state = "outside" if found.outside else "within"
        means = (usual_mean, float(np.mean(new)))
        limits = (found.value, found.low, found.high)
        return Signal(bundle, full, state, *limits, *means, *counts, alarm=found.outside)

    counts = (there, needed)
    for name, value in properties.items():
        new, old = _values(newest, value), _values(first, value)
        if len(_values(recent, value)) == 0:
            continue  # one member has no disagreement, a bundle without a reference no distance
        yield signal(name, OWN, new, old, lambda new=new, old=old: level(new, old, alpha), counts, enough)
    for name, holds in _RATES.items():
        new = np.array([holds(seen) for seen in newest], np.float64)
        old = (sum(map(holds, first)), len(first))
        yield signal(
            name, OWN, new, old,
            lambda new=new, old=old: rate(int(np.sum(new)), len(new), *old, alpha), counts, enough,
        )  # fmt: skip
    new, old = _values(newest, _score), _values(first, _score)
    yield signal("scores", OWN, new, old, lambda: shape(new, old, alpha), counts, enough)

    counts, enough = (len(recent), settings.window), len(recent) >= settings.window
    if validation.scores is not None:
        scores, now_scores = validation.scores, _values(recent, _score)
        yield signal(
            "scores", TRAINING, now_scores, scores,
            lambda: shape(now_scores, scores, alpha), counts, enough,
        )  # fmt: skip
    if validation.positives is not None:
        positive = np.array([seen.positive for seen in recent], np.float64)
        of_validation = validation.positives
        yield signal(
            "positive rate", TRAINING, positive, of_validation,
            lambda: rate(int(np.sum(positive)), len(positive), *of_validation, alpha), counts, enough,
        )  # fmt: skip
    if validation.unlike is not None:
        far, usual = (_values(recent, _distance) > 1).astype(np.float64), validation.unlike
        yield signal(
            "unlike images", TRAINING, far, usual,
            lambda: rate(int(np.sum(far)), len(far), *usual, alpha), counts, enough,
        )  # fmt: skip


def _properties(images: Sequence[Seen]) -> dict[str, Callable[[Seen], float | None]]:
    names = sorted({name for seen in images for name in seen.inputs})
    found: dict[str, Callable[[Seen], float | None]] = {
        f"input {name}": lambda seen, name=name: seen.inputs.get(name) for name in names
    }
    return found | {"disagreement": lambda seen: seen.spread, "distance": _distance}


def _score(seen: Seen) -> float | None:
    return seen.score


def _distance(seen: Seen) -> float | None:
    return seen.distance


def _values(images: Sequence[Seen], value: Callable[[Seen], float | None]) -> np.ndarray:
    found = np.array([number for number in map(value, images) if number is not None], np.float64)
    return found[np.isfinite(found)]
