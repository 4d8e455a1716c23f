"""A look at all images of a study: which of them which bundle is to read, in which order, and why others are not."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from freezeframe.imaging.header import integer, opened, text
from freezeframe.imaging.image import UnreadableImage
from freezeframe.pacs.configuration import Rule
from freezeframe.pacs.studies.images import is_image_class, is_result
from freezeframe.pacs.studies.rules import explain
from freezeframe.pacs.tables import Image

MOST_IMAGES = 4000
"""Of one study that are looked at; more are left out, and said."""

Place = tuple[int, str, int, str]
"""Series number, series, instance number and SOP instance UID: the order in which images are read."""

_LAST = 2**31  # after every IS
_MOST_REASONS = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """One reading that the rules ask for.

    Attributes
    ----------
    bundle : str
        Its name in the configuration.
    rule : str
        The first rule of the best priority that chose an image.
    priority : int
        The best of these rules; 0 is read first.
    image_uids : tuple of str
        SOP instances in order of series number, series, instance number and UID; those of the study whose header can't
        be read are among them, so that the reading names them.
    """

    bundle: str
    rule: str
    priority: int
    image_uids: tuple[str, ...]


@dataclass
class Look:
    """What was found in a study.

    Attributes
    ----------
    wanted : list of Wanted
        One for each bundle.
    images : int
        Files that are images, could be read and are no results of a node.
    others, results : int
        Files that are something else, and results of a node.
    unreadable : list of Place
        Images whose header could not be read.
    missing : int
        Files that are not there: lost.
    left_out : int
        Images beyond `MOST_IMAGES`.
    reasons : dict of str to Counter
        For each rule, how many images it left for which reason.
    """

    wanted: list[Wanted] = field(default_factory=list)
    images: int = 0
    others: int = 0
    results: int = 0
    unreadable: list[Place] = field(default_factory=list)
    missing: int = 0
    left_out: int = 0
    reasons: dict[str, Counter[str]] = field(default_factory=dict)

    def in_words(self) -> str:
        """Say why nothing of the study is read, without patient data."""
        parts = [
            f"Rule {name}: {', '.join(f'{reason} ({count})' for reason, count in found.most_common(_MOST_REASONS))}."
            for name, found in self.reasons.items()
            if found
        ]
        if self.images == 0:
            parts.insert(0, "It holds no image.")
        else:
            parts.insert(0, f"No rule chose any of its images ({self.images}).")
        for count, words in (
            (self.others, "Objects that are no images: {}."),
            (self.results, "Results of a node: {}."),
            (len(self.unreadable), "Files that could not be read: {}."),
            (self.left_out, "Images that were not looked at, as they are too many: {}."),
        ):
            if count:
                parts.append(words.format(count))
        return " ".join(parts)[:1000]


def look(folder: Path, images: Sequence[Image], rules: Sequence[Rule], ours: Iterable[str]) -> Look:
    """Ask all rules of all images of a study.

    Parameters
    ----------
    folder : Path
        The node's.
    images : sequence of Image
        Rows of those whose files are there.
    rules : sequence of Rule
        Of the configuration, in its order.
    ours : iterable of str
        SOP instance UIDs of results of this node.
    """
    found = Look(reasons={rule.name: Counter() for rule in rules}, left_out=max(0, len(images) - MOST_IMAGES))
    known = set(ours)
    chosen: dict[str, list[tuple[Place, Rule]]] = {}
    for image in images[:MOST_IMAGES]:
        if not is_image_class(image.sop_class_uid):
            found.others += 1
        elif image.sop_instance_uid in known:
            found.results += 1
        else:
            _ask(folder, image, rules, found, chosen)
    order = {rule.name: number for number, rule in enumerate(rules)}
    for bundle, entries in chosen.items():
        best = min((rule for _, rule in entries), key=lambda rule: (rule.priority, order[rule.name]))
        # What can't be read may be what a rule is for: it is named in the result rather than missing without a word.
        keys = sorted({*(key for key, _ in entries), *found.unreadable})
        found.wanted.append(Wanted(bundle, best.name, best.priority, tuple(key[-1] for key in keys)))
    found.wanted.sort(key=lambda entry: entry.bundle)
    return found


def _ask(
    folder: Path,
    image: Image,
    rules: Sequence[Rule],
    found: Look,
    chosen: dict[str, list[tuple[Place, Rule]]],
) -> None:
    try:
        with opened(folder / image.path) as file:
            header = file.header
            if (
                text(header, "SOPInstanceUID") != image.sop_instance_uid
            ):  # what was parsed is no header of its
                raise UnreadableImage(folder / image.path, "its header is damaged.")
            if not file.keyword:
                found.others += 1
                return
            if is_result(header):
                found.results += 1
                return
            key = _place(header, image)
            reasons = [(rule, explain(header, rule)) for rule in rules]
    except UnreadableImage:
        if not (folder / image.path).is_file():
            found.missing += 1
            return
        found.unreadable.append((_LAST, image.series_uid, _LAST, image.sop_instance_uid))
        _log.warning(
            "The header of an image can't be read.", extra={"sop_instance_uid": image.sop_instance_uid}
        )
        return
    found.images += 1
    for rule, unmet in reasons:
        if unmet:
            found.reasons[rule.name].update(unmet)
        else:
            chosen.setdefault(rule.bundle, []).append((key, rule))


def _place(header: Dataset, image: Image) -> Place:
    series, instance = integer(header, "SeriesNumber"), integer(header, "InstanceNumber")
    return (
        _LAST if series is None else series,
        image.series_uid,
        _LAST if instance is None else instance,
        image.sop_instance_uid,
    )
