"""Who may do what on the page and in the API: every route but login and the page's own files asks here."""

import base64
import binascii
import hmac
import ipaddress
import math
import secrets
import threading
import time
from collections import OrderedDict

from fastapi import HTTPException, Request, Response

from freezeframe.pacs.configuration import NodeConfiguration, Web
from freezeframe.pacs.database import Database
from freezeframe.pacs.security import audit, logins
from freezeframe.pacs.security.logins import Account, BasicLogins, LoginRefusedError
from freezeframe.pacs.security.passwords import ROLES
from freezeframe.pacs.security.slowing import TooManyAttemptsError

CSRF_HEADER = "X-CSRF-Token"
AUTOMATIC_HEADER = "X-Automatic"
"""With any value: a page asked by itself, which does not keep a session from ending for want of use."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_SEEN_SECONDS = 900.0
_MOST_SEEN = 10_000


class Access:
    """Logins and roles of one node; its methods are dependencies of routes.

    Parameters
    ----------
    database : Database
        With users and sessions.
    configuration : NodeConfiguration
        Its `web` says how long sessions last and whether a reverse proxy is trusted.
    """

    def __init__(self, database: Database, configuration: NodeConfiguration) -> None:
        self.database = database
        self.web = configuration.web or Web()
        self.lifetime = self.web.session_hours * 3600
        # With the prefix browsers take the cookie only over TLS, for this host and all of it (RFC 6265bis, 4.1.3.2).
        self.cookie = "__Host-freezeframe" if self.web.is_secure else "freezeframe"
        networks = self.web.proxy.networks if self.web.proxy is not None else ()
        self._proxies = [ipaddress.ip_network(network, strict=False) for network in networks]
        self._key = secrets.token_bytes(32)
        self._basic = BasicLogins(database)
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def viewer(self, request: Request) -> Account:
        """Let in whoever may see studies."""
        return self._account(request, "viewer", "reader", "admin")

    def reader(self, request: Request) -> Account:
        """Let in whoever may give feedback."""
        return self._account(request, "reader", "admin")

    def admin(self, request: Request) -> Account:
        """Let in administrators."""
        return self._account(request, "admin")

    def sender(self, request: Request) -> str:
        """Let in a program that sends images, by basic authentication, and return its user's name.

        Raises
        ------
        HTTPException
            401 without a right login, 403 with another role than sender or admin, 429 after too many failures.
        """
        user, password = _basic(request.headers.get("Authorization", ""))
        challenge = {"WWW-Authenticate": 'Basic realm="freezeframe", charset="UTF-8"'}
        if not user:
            raise HTTPException(401, "Log in with basic authentication.", challenge)
        try:
            role = self._basic.role(user, password, address_of(request), time.time())
        except LoginRefusedError as error:
            raise HTTPException(401, str(error), challenge) from error
        except TooManyAttemptsError as error:
            raise too_many(error) from error
        if role not in ("sender", "admin"):
            raise self._refused(user, request)
        self.note(Account(user, role, ""), audit.LOGIN, address_of(request), "basic authentication")
        return user

    def log_in(self, request: Request, response: Response, user: str, password: str) -> Account:
        """Check a password, open a session and set its cookie."""
        try:
            opened = logins.log_in(
                self.database, user, password, address_of(request), self.lifetime, time.time()
            )
        except LoginRefusedError as error:
            raise HTTPException(401, str(error)) from error
        except TooManyAttemptsError as error:
            raise too_many(error) from error
        self.log_out(request, response)  # a session that this browser had before
        response.set_cookie(
            self.cookie,
            opened.token,
            max_age=math.ceil(self.lifetime),
            path="/",
            secure=self.web.is_secure,
            httponly=True,
            samesite="strict",
        )
        return Account(user, opened.role, opened.csrf_token)

    def log_out(self, request: Request, response: Response) -> None:
        """End the session of a request's cookie, and have the browser forget it."""
        token = request.cookies.get(self.cookie)
        if token:
            logins.log_out(self.database, token, time.time())
        response.delete_cookie(
            self.cookie, path="/", secure=self.web.is_secure, httponly=True, samesite="strict"
        )

    def note(self, account: Account, what: str, target: str = "", detail: str = "") -> None:
        """Write that somebody looked at something to the audit trail, at most once in a quarter of an hour."""
        key, now = (account.user, what, target, detail), time.monotonic()
        with self._lock:
            if now - self._seen.get(key, -math.inf) < _SEEN_SECONDS:
                return
        with self.database.transaction() as session:
            audit.record(session, account.user, what, target, detail=detail)
        with self._lock:
            self._seen[key] = now
            self._seen.move_to_end(key)
            while len(self._seen) > _MOST_SEEN:
                self._seen.popitem(last=False)

    def _account(self, request: Request, *roles: str) -> Account:
        account = self._of_proxy(request) or self._of_session(request)
        if account is None:
            raise HTTPException(401, "Log in first.")
        if account.role not in roles:
            raise self._refused(account.user, request)
        if request.method not in _SAFE_METHODS:
            sent = request.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(sent.encode(), account.csrf_token.encode()):
                raise HTTPException(403, f"The header {CSRF_HEADER} is missing or not this session's.")
        return account

    def _of_session(self, request: Request) -> Account | None:
        token = request.cookies.get(self.cookie)
        if not token:
            return None
        used = AUTOMATIC_HEADER not in request.headers
        return logins.find(self.database, token, self.lifetime, time.time(), used)

    def _of_proxy(self, request: Request) -> Account | None:
        """Return whom a trusted proxy vouches for; from anybody else its headers mean nothing."""
        proxy = self.web.proxy
        if proxy is None or not self._is_proxy(address_of(request)):
            return None
        users = request.headers.getlist(proxy.user_header)
        if not users:
            return None
        roles = request.headers.getlist(proxy.role_header)
        user, role = users[0], roles[0] if roles else ""
        is_one = len(users) == len(roles) == 1 and 0 < len(user) <= 64 and user.isprintable()
        if not is_one or role not in ROLES:
            raise HTTPException(403, f"The proxy must send one user and one role of {', '.join(ROLES)}.")
        token = hmac.new(self._key, user.encode(), "sha256").hexdigest()
        return Account(user, role, token)

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._proxies)

    def _refused(self, user: str, request: Request) -> HTTPException:
        with self.database.transaction() as session:
            audit.record(
                session, user, audit.ACCESS_REFUSED, address_of(request), audit.FAILURE, "its role may not"
            )
        return HTTPException(403, "Your role may not do this.")


def address_of(request: Request) -> str:
    """Return the address that a request really came from, whatever its headers say."""
    return request.client.host if request.client is not None else ""


def too_many(error: TooManyAttemptsError) -> HTTPException:
    """Make the answer to an attempt that came too soon."""
    return HTTPException(429, str(error), {"Retry-After": str(error.seconds)})


def _basic(header: str) -> tuple[str, str]:
    """Return user and password (RFC 7617, in UTF-8); ('', '') where there are none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, divided, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return (user, password) if divided else ("", "")
