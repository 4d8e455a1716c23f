"""FHIR R4 transaction bundles by POST to a server's base (FHIR R4, section 3.1.0.11).

The bundles name their resources by ids of their own, so that sending one again changes nothing.
"""

from collections.abc import Generator, Sequence
from typing import Any

import httpx

from freezeframe.pacs.configuration import FhirDestination
from freezeframe.pacs.delivery.parcels import Answer, Parcel, whole
from freezeframe.pacs.delivery.web_requests import check_reachable, client, explained

MEDIA_TYPE = "application/fhir+json"


def send(destination: FhirDestination, parcels: Sequence[Parcel]) -> Generator[Answer, None, None]:
    """Post bundles one after the other.

    Yields
    ------
    Answer
        Of each bundle. One that the server calls wrong (4xx) is put aside, what the server fails at (5xx) is not.

    Raises
    ------
    UnreachableError
        If the server can't be reached, is overloaded or refuses the login.
    """
    with client(destination) as opened:
        for parcel, problem in whole(parcels):
            if problem is not None:
                yield problem
                continue
            with explained(parcel):
                answer = opened.post(
                    destination.url,
                    content=parcel.path.read_bytes(),
                    headers={"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE},
                )
            check_reachable(answer)
            yield _read(parcel, answer)


def _read(parcel: Parcel, answer: httpx.Response) -> Answer:
    if not answer.is_success:
        return Answer(parcel, False, f"HTTP status {answer.status_code}", is_final=answer.is_client_error)
    # A transaction succeeds or fails as a whole; a server that says otherwise of an entry has not stored it.
    wrong = [status for status in _entry_statuses(answer) if not status.startswith("2")]
    if wrong:
        code = wrong[0][:3] if wrong[0][:3].isdigit() else "unknown"
        return Answer(
            parcel, False, f"an entry of the bundle has status {code}", is_final=code.startswith("4")
        )
    return Answer(parcel, True)


def _entry_statuses(answer: httpx.Response) -> list[str]:
    try:
        content: Any = answer.json()
        return [str(entry["response"]["status"]) for entry in content.get("entry", [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # the answer's own status says it all
