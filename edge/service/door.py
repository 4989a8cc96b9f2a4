"""Who may come in over HTTP: the right host, the right origin, the right token. ASGI, before everything else.

A browser is a way in for every page that its user has open. Three checks keep strange pages out: the *Host*
header must name this computer, so that no foreign name that was made to point here (DNS rebinding) is served;
the *Origin*, where there is one, must be that host, so that no foreign page can post; and where the service
listens beyond this computer, each request must bring the token, as ``Authorization: Bearer …`` or as the
cookie that `/api/login` gave for it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["COOKIE", "MOST_BYTES", "Door", "cookie_of", "own_names"]

COOKIE = "parfocal"
MOST_BYTES = 65_536
"""Longest body of a request."""
#: What a browser needs to show the page and ask for the token.
_OPEN = frozenset({"/", "/app.js", "/style.css", "/icon.svg", "/api/login"})
_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


def own_names(more: Iterable[str] = ()) -> frozenset[str]:
    """Names of this computer, in lower case, and ``more``."""
    host = socket.gethostname().lower()
    return frozenset(
        {"localhost", host, f"{host.partition('.')[0]}.local", *(n.strip().lower() for n in more)}
    )


def cookie_of(token: str) -> str:
    """What the cookie holds instead of the token itself."""
    return hmac.new(token.encode(), b"parfocal cookie", hashlib.sha256).hexdigest()


class Door:
    """``token`` None: none is asked for. ``names``: by which this computer may be called, besides its
    address."""

    def __init__(self, app: ASGIApp, *, token: str | None, names: frozenset[str]) -> None:
        self.app, self._token, self._names = app, token, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def answered(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        refused = self.refusal(scope)
        if refused is None:
            await self.app(scope, receive, answered)
            return
        status, text = refused
        body = json.dumps({"error": text}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        # What was sent along is not read: the connection ends with the answer.
        headers.append((b"connection", b"close"))
        await answered({"type": "http.response.start", "status": status, "headers": headers})
        await answered({"type": "http.response.body", "body": body})

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and sentence for a request that is not let in; None for one that is."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_us(hosts[0], scope):
            return 403, "this computer does not go by that name; [api] names in its configuration allows more"
        origin = headers.get("origin")
        if origin is not None and not _same(origin, hosts[0], scope):
            return 403, "a page of another origin asks"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["path"] != "/":
            return 403, "a page of another site asks"
        if not self._length_is_allowed(headers):
            return 413, f"a body of known length, at most {MOST_BYTES} bytes, is allowed"
        if self._token is not None and scope["path"] not in _OPEN and not self._has_token(headers):
            return 401, "the token of this microscope is needed"
        return None

    def right_token(self, text: str) -> bool:
        """Whether ``text`` is the token, in a time that tells nothing about it; True where none is needed."""
        return self._token is None or _equal(text, self._token)

    def _is_us(self, host: str, scope: Scope) -> bool:
        name = _name(host)
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
            own = ipaddress.ip_address((scope.get("server") or ("", 0))[0].partition("%")[0])
        except ValueError:
            return False
        own = getattr(own, "ipv4_mapped", None) or own
        return address == own or (address.is_loopback and own.is_loopback)

    def _has_token(self, headers: Headers) -> bool:
        assert self._token is not None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(given.strip(), self._token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and _equal(cookie.value, cookie_of(self._token))

    @staticmethod
    def _length_is_allowed(headers: Headers) -> bool:
        if "transfer-encoding" in headers:
            return False
        text = headers.get("content-length", "0")
        return text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= MOST_BYTES


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())


def _name(host: str) -> str:
    """The name in a Host header, in lower case, without port, brackets and the dot at the end."""
    try:
        return (urlsplit(f"//{host.strip()}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _same(origin: str, host: str, scope: Scope) -> bool:
    return origin.strip().lower() == f"{scope.get('scheme', 'http')}://{host.strip().lower()}"
