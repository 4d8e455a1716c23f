"""HTTP to destinations: who we are, whom we trust, and what an answer says of the destination as a whole."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from freezeframe.pacs.configuration import FhirDestination, WebDestination
from freezeframe.pacs.delivery.parcels import Parcel, UnreachableError
from freezeframe.pacs.security.tls import client_context

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
NOT_OF_THE_OBJECT = {401, 403, 404, 405, 407, 408, 410, 421, 425, 429}
"""Besides 3xx and 5xx: the address, the login or the load is wrong, not what is sent."""


@contextmanager
def client(destination: WebDestination | FhirDestination) -> Iterator[httpx.Client]:
    """Open a client with the destination's login and authority; it follows no redirects and no proxy variables."""
    headers = {}
    if destination.token_file is not None:
        headers["Authorization"] = f"Bearer {_secret(destination.token_file)}"
    login = None
    if isinstance(destination, WebDestination) and destination.user is not None:
        password = "" if destination.password_file is None else _secret(destination.password_file)
        login = httpx.BasicAuth(destination.user, password)
    verify: ssl.SSLContext | bool = True
    if destination.url.startswith("https"):
        verify = client_context(None, destination.authority)
    with httpx.Client(
        headers=headers, auth=login, verify=verify, timeout=TIMEOUT, trust_env=False, follow_redirects=False
    ) as opened:
        yield opened


@contextmanager
def explained(parcel: Parcel | None = None) -> Iterator[None]:
    """Turn failures of a connection into `UnreachableError`; `parcel` is what was being sent."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise UnreachableError(f"no connection ({type(error).__name__})") from None
    except httpx.HTTPError as error:
        raise UnreachableError(f"no answer ({type(error).__name__})", parcel) from None


def check_reachable(answer: httpx.Response) -> None:
    """Raise `UnreachableError` if an answer is not about what was sent."""
    code = answer.status_code
    if code in NOT_OF_THE_OBJECT or 300 <= code < 400 or code in (502, 503, 504):
        raise UnreachableError(f"HTTP status {code}")


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreachableError(f"its password or token file can't be read ({type(error).__name__})") from None
