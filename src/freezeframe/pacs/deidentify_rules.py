"""What is done to each attribute: the basic profile (PS3.15, table E.1-1), from the library that keeps its table.

dicom-anonymizer brings the table and applies it to one level of a data set; sequences, dates and UIDs are ours: it
leaves items of sequences as they are, puts the year 1 for dates that are to go, and new random UIDs in each run.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal

from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions, replace_element
from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from freezeframe.pacs.deidentify_salt import Pseudonyms

EDITION = "2026c"
"""Of the standard whose table is applied."""
Dates = Literal["shift", "remove"]
Action = Callable[[Dataset, tuple[int, int]], None]
_NO_MOMENT = {"DA": "19000101", "DT": "19000101000000", "TM": "000000"}
"""Stand for dates that must be there: valid ones, which the library's (of the year 1) are not to every reader."""
_REFERENCE = {
    "ReferencedSOPClassUID",
    "ReferencedSOPInstanceUID",
    "ReferencedFrameNumber",
    "PurposeOfReferenceCodeSequence",
}
_ENCRYPTED = 0x04000500
"""Holds what an earlier de-identification took out, for whoever has its key (PS3.15, section E.1.1)."""
# Of the sequences that may go or be emptied, those that an image must have (type 2 in CR and DX, PS3.3, C.8.11.1).
_KEPT_EMPTY = {(0x0040, 0x0555)}  # Acquisition Context Sequence


class Rules:
    """The table's actions for one patient.

    Parameters
    ----------
    pseudonyms : Pseudonyms
        For UIDs and days.
    identity : str
        Of the patient.
    dates : str
        ``shift`` moves a patient's dates by one number of days and drops the times of day; ``remove`` drops both.
    """

    def __init__(self, pseudonyms: Pseudonyms, identity: str, dates: Dates) -> None:
        self._pseudonyms = pseudonyms
        self._days = timedelta(days=pseudonyms.days(identity))
        self._dates = dates
        self._actions = {tag: self._own(name) for tag, name in _table().items() if len(tag) == 2}
        # Birth dates are not moved: with a shift of few days they would still tell an age.
        self._actions[0x0010, 0x0030] = _empty

    def apply(self, dataset: Dataset) -> None:
        """Clean a data set and all items of its sequences, in place."""
        for element in list(dataset):
            tag = element.tag
            of_a_message = (
                tag.group < 0x0008
            )  # commands and file meta information, which are no part of a data set
            if (
                of_a_message
                or tag.is_private
                or _is_layer(tag)
                or tag == _ENCRYPTED
                or not dictionary_has_tag(tag)
                or element.VR == "UN"
            ):
                del dataset[tag]
            elif element.VR == "SQ":
                for item in element.value:
                    self.apply(item)
        anonymize_dataset(dataset, base_rules_gen=lambda: self._actions)

    def _own(self, name: str) -> Action:
        actions: dict[str, Action] = {
            "replace": self._replace,
            "empty": self._empty_or_move,
            "delete": self._delete_or_move,
            "replace_UID": self._replace_uid,
            "empty_or_replace": self._replace,
            "delete_or_empty": self._empty_or_move,
            "delete_or_replace": self._delete_or_move,
            "delete_or_empty_or_replace": self._delete_or_move,
            "delete_or_empty_or_replace_UID": _keep_references,
        }
        return actions[name]

    def _replace(self, dataset: Dataset, tag: tuple[int, int]) -> None:
        element = dataset.get(tag)
        if element is None or self._moved(element):
            return
        if element.VR == "SQ":  # of reports, graphics and persons, without which an image is whole
            del dataset[tag]
        elif element.VR == "UI":
            self._replace_uid(dataset, tag)
        elif element.VR in _NO_MOMENT:
            element.value = _NO_MOMENT[element.VR]
        else:
            replace_element(element)

    def _empty_or_move(self, dataset: Dataset, tag: tuple[int, int]) -> None:
        element = dataset.get(tag)
        if element is None or self._moved(element):
            return
        if element.VR == "SQ" and tag not in _KEPT_EMPTY:
            del dataset[tag]
        else:
            _empty(dataset, tag)

    def _delete_or_move(self, dataset: Dataset, tag: tuple[int, int]) -> None:
        element = dataset.get(tag)
        if element is not None and not self._moved(element):
            del dataset[tag]

    def _replace_uid(self, dataset: Dataset, tag: tuple[int, int]) -> None:
        element = dataset.get(tag)
        if element is None or not element.value:
            return
        several = isinstance(element.value, MultiValue)
        uids = [self._pseudonyms.uid(str(uid)) for uid in (element.value if several else [element.value])]
        element.value = uids if several else uids[0]

    def _moved(self, element: Any) -> bool:
        """Move a date, where dates are moved and it is one; times of day go."""
        if self._dates != "shift" or element.VR not in ("DA", "DT") or not element.value:
            return False
        several = isinstance(element.value, MultiValue)
        moved = [self._earlier(str(value)) for value in (element.value if several else [element.value])]
        if any(value is None for value in moved):
            return False
        element.value = moved if several else moved[0]
        return True

    def _earlier(self, value: str) -> str | None:
        found = re.match(r"\d{8}", value.replace(".", "").replace("-", "").strip())
        try:
            return (datetime.strptime(found[0], "%Y%m%d") - self._days).strftime("%Y%m%d") if found else None
        except (ValueError, OverflowError):
            return None


def _empty(dataset: Dataset, tag: tuple[int, int]) -> None:
    element = dataset.get(tag)
    if element is not None:
        element.value = [] if element.VR == "SQ" else None


def _keep_references(dataset: Dataset, tag: tuple[int, int]) -> None:
    """Leave of references to images what makes them such; UIDs were replaced when the items were cleaned."""
    element = dataset.get(tag)
    if element is None:
        return
    for item in element.value:
        for part in list(item):
            if part.keyword not in _REFERENCE:
                del item[part.tag]
    element.value = [item for item in element.value if "ReferencedSOPInstanceUID" in item]
    if not element.value:
        del dataset[tag]


def _is_layer(tag: BaseTag) -> bool:
    # Curves and overlays (PS3.5, section 7.6): what is drawn over an image is often its patient's name.
    return tag.group % 2 == 0 and (0x5000 <= tag.group <= 0x50FE or 0x6000 <= tag.group <= 0x60FE)


@cache
def _table() -> dict[tuple[int, ...], str]:
    return {tag: action.__name__ for tag, action in initialize_actions(f"dicomfields_{EDITION}").items()}
