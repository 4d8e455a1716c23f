"""What the senders take and answer: plain data between the outbox and the protocols."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from freezeframe import files
from freezeframe.errors import FreezeframeError


@dataclass(frozen=True)
class Parcel:
    """One object on its way to one destination.

    Attributes
    ----------
    delivery_id : int
        Row of the outbox.
    study_uid : str
        Of the study.
    kind : str
        sr, sc, gsps, hl7 or fhir.
    sop_class_uid, sop_instance_uid : str
        '' for hl7 and fhir.
    path : Path
        Of the file whose bytes are sent as they are.
    sha256 : str
        That the file must have.
    is_stored : bool
        Whether the destination has it already, and only its commitment is open.
    """

    delivery_id: int
    study_uid: str
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    sha256: str
    is_stored: bool


@dataclass(frozen=True)
class Answer:
    """What a destination said of one object.

    Attributes
    ----------
    parcel : Parcel
        Which object.
    stored : bool
        Whether it has it.
    reason : str
        What it said, in constant words and codes: no patient data.
    is_final : bool
        Whether it will say the same of the same bytes next time, so that asking again soon makes no sense.
    """

    parcel: Parcel
    stored: bool
    reason: str = ""
    is_final: bool = False


class UnreachableError(FreezeframeError):
    """A destination can't take anything now: the fault is not of one object.

    Parameters
    ----------
    reason : str
        In constant words and codes: no patient data.
    parcel : Parcel, optional
        That was being sent when the destination fell silent: it may be what the destination does not survive.
    """

    def __init__(self, reason: str, parcel: Parcel | None = None) -> None:
        super().__init__(reason)
        self.reason, self.parcel = reason, parcel


def whole(parcels: Iterable[Parcel]) -> Iterator[tuple[Parcel, Answer | None]]:
    """Go through parcels, with an answer for those whose file is missing or is not what was made."""
    for parcel in parcels:
        try:
            found = files.sha256_file(parcel.path)
        except OSError as error:
            yield parcel, Answer(parcel, False, f"its file can't be read ({error.strerror})", is_final=True)
            continue
        changed = found != parcel.sha256
        yield parcel, Answer(parcel, False, "its file was changed", is_final=True) if changed else None
