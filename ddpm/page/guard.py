"""What stands between the network and the app: headers, limits, and no service of Gradio's that the app does not need."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ddpm.page.client import ADDRESS
from ddpm.page.hosts import Hosts, name_of
from ddpm.page.movie import MOST_BYTES as MOST_MOVIE_BYTES
from ddpm.page.shares import Full, Places

logger = logging.getLogger(__name__)

POLICY = {
    "default-src": "'self'",
    # Gradio's page begins with inline scripts and compiles a component's script with Function.
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "connect-src": "'self' data: blob:",
    "object-src": "'none'",
    "frame-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'self' https://huggingface.co https://*.hf.space",  # a Space is shown in a frame
}
"""What the browser may load for the page, and who may show it in a frame."""

SECURITY = {
    "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""Headers of every answer."""

NOT_KEPT = ("text/html", "application/json")
"""Types of answers that name the host that was asked for, and that nobody on the way may keep for others."""

API = "/gradio_api"

CLOSED = (
    *(f"{API}/{name}" for name in ("proxy=", "file=http", "file/", "stream/", "component_server", "process_recording")),
    *(f"{API}/{name}" for name in ("vibe-", "undo-vibe-edit", "runs", "run-history", "deep_link", "dev/", "token")),
    *(f"{API}/{name}" for name in ("custom_component/", "profiling", "openapi.json")),
    *("/monitoring", "/login", "/logout", "/pwa_icon"),
)
"""How the paths of what Gradio offers and the app does not use begin: fetching for visitors, writing files, watching."""

MOVIE, UPLOAD = "/movie/", f"{API}/upload"

EVENTS = tuple(f"{API}/{name}" for name in ("queue/join", "call/"))
"""How the paths begin on which a POST starts a run."""

LIMITED = (MOVIE, UPLOAD, *EVENTS, f"{API}/mcp")
"""How the paths begin on which a POST brings an event, a program's call or a file, and counts against its address's rate."""

DESCRIPTIONS = ("/config", f"{API}/info")
"""How the paths begin on which a program asks what the app can do, and is answered up to a megabyte."""

DESCRIPTION_COST = 4
"""Requests as which such a question counts against the rate: the answer costs the server up to 20 ms."""

FORWARDED = (b"x-forwarded-host", b"x-forwarded-proto")
"""Headers that say where the visitor has asked a proxy, which Gradio writes into its answers."""

APART = 8
"""Turns of the event loop from one such POST to the next. Were the events of a class let in at once, every turn would do a part of the
work for each of them, and a page that is asked for meanwhile, which takes some ten turns, would wait for a quarter second.
"""

LONGEST_TURN = 1.0
"""Seconds after which it comes in anyway, however many stand before it."""

MOST_FILE_BYTES = 16 * 2**20
"""Of one file that a visitor brings; a lesson may allow less."""

MOST_BODY_BYTES = 2**18
"""Of the body of a request, unless it brings what MOST_BYTES allows."""

MOST_BYTES = {UPLOAD: MOST_FILE_BYTES + 2**16, MOVIE: MOST_MOVIE_BYTES}
"""Of the body of a request that brings files or pictures, by how its path begins."""

BODY_SECONDS = 60.0
"""In which a body must have come."""

UPLOADS_EACH, UPLOADS = 32, 128
"""Uploads that may be on their way at once from one address, and in all; each holds a file open."""

MOST_ADDRESSES = 10_000
"""Whose rate is remembered; past that the one that has asked for nothing the longest is forgotten."""


Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NEAR: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in ("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10")
)
"""The networks in which a proxy is believed by default: this machine and private ones."""


def networks(text: str) -> tuple[Network, ...]:
    """The networks in ``text``, addresses such as 10.0.0.0/8 with commas between. Raises ValueError for anything else."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"DDPM_TRUSTED_PROXIES must be networks with commas between ({error}).") from error


def is_trusted(peer: str, proxies: Sequence[Network]) -> bool:
    """Whether what ``peer``, who has connected, says of others is believed."""
    try:
        ip = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return any(ip in network for network in proxies)


@dataclass(frozen=True)
class Limits:
    """How much one address may ask; raises ValueError, in one sentence, for what cannot be.

    ``rate`` requests a second on average, none of them refused at 0, ``burst`` at once. Behind a proxy the address is
    the last but ``hops`` − 1 of those in ``header``, which every trusted proxy adds one to; without a ``header``, or if
    the connection comes from none of the ``proxies``, it is the connection's.
    """

    rate: float = 20
    burst: float = 600
    header: str = ""
    hops: int = 1
    proxies: tuple[Network, ...] = NEAR

    def __post_init__(self) -> None:
        if not 0 <= self.rate < math.inf:
            raise ValueError(f"The rate is {self.rate}; it must be a number of requests a second, or 0 for no limit.")
        if self.burst < 1 or self.hops < 1:
            raise ValueError(f"The burst is {self.burst} and the hops are {self.hops}; both must be at least 1.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Limits:
        """What DDPM_RATE and DDPM_TRUSTED_PROXY_HEADER, _HOPS and DDPM_TRUSTED_PROXIES say. Raises ValueError for nonsense."""
        texts = {"rate": environment.get("DDPM_RATE"), "hops": environment.get("DDPM_TRUSTED_PROXY_HOPS")}
        try:
            rate, hops = float(texts["rate"] or cls.rate), int(texts["hops"] or cls.hops)
        except ValueError as error:
            raise ValueError(f"DDPM_RATE and DDPM_TRUSTED_PROXY_HOPS must be numbers ({error}).") from error
        proxies = networks(environment.get("DDPM_TRUSTED_PROXIES", "")) or NEAR
        return cls(rate, max(1, 30 * rate), environment.get("DDPM_TRUSTED_PROXY_HEADER") or "", hops, proxies)


def address(scope: Scope, limits: Limits) -> str:
    """Who asks: an IPv4 address, or an IPv6 network of 64 bits, which is what one household has."""
    client = (scope.get("client") or ("unknown",))[0]
    if limits.header and is_trusted(client, limits.proxies):
        given = ",".join(Headers(scope=scope).getlist(limits.header)).split(",")
        # Fewer than the trusted proxies add: nobody came through all of them, so what stands there is not to be believed.
        client = given[-limits.hops].strip() if len(given) >= limits.hops and given[-limits.hops].strip() else client
    try:
        ip = ipaddress.ip_address(client)
    except ValueError:
        return client[:64]
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return str(ip if ip.version == 4 else ipaddress.ip_network((int(ip), 64), strict=False))


class Buckets:
    """A token bucket for each address: ``burst`` tokens at first, ``rate`` more a second up to that."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float] = time.monotonic):
        self._rate, self._burst, self._now = rate, burst, now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, who: str, tokens: int = 1) -> float:
        """Takes so many tokens and returns 0, or the seconds until there are as many, or all that there can be."""
        if not self._rate:
            return 0.0
        now = self._now()
        left, then = self._left.pop(who, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        asked = min(tokens, self._burst)
        allowed = left >= asked
        self._left[who] = (left - asked * allowed, now)
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return 0.0 if allowed else (asked - left) / self._rate

    def __len__(self) -> int:
        return len(self._left)


class Guard:
    """Pure ASGI middleware: refuses what is not allowed, and passes everything else on as it streams.

    It notes in a request's scope, under ADDRESS, whom it counts it to. ``full`` says, in one sentence, why an address
    can have no further run, or nothing; ``shelve`` counts a file of so many bytes to an address, or raises Full.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        hosts: Hosts = Hosts(),  # noqa: B008  # a frozen value
        full: Callable[[str], str] = lambda who: "",
        shelve: Callable[[str, int], None] = lambda who, size: None,
    ):
        self._app, self._limits, self._buckets = app, limits, Buckets(limits.rate, limits.burst)
        self._hosts, self._full_of_runs, self._shelve = hosts, full, shelve
        self._uploads, self._door = Places(UPLOADS_EACH, UPLOADS), asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope[ADDRESS] = address(scope, self._limits)
        scope["headers"] = _believed(scope, self._limits)
        secured, started = _secured(send)
        if refusal := self._refusal(scope):
            return await refusal(scope, receive, secured)
        try:
            await self._take_turn(scope)
            with self._room(scope):
                await self._app(scope, _in_time(receive), secured)
        except Full as full:
            await _refuse(full.status, str(full))(scope, receive, secured)
        except ClientDisconnect:
            logger.info("The client left before its request for %.200r had come.", scope["path"])
        except Exception:
            logger.exception("The request for %.200r failed.", scope["path"])
            if not started():
                await _refuse(500, "The server has an error; please try again.")(scope, receive, secured)

    async def _take_turn(self, scope: Scope) -> None:
        """Lets such POSTs in one by one; whoever is slow to send a body holds up nobody."""
        if scope["method"] == "POST" and _path(scope).startswith(LIMITED):
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._turn(), LONGEST_TURN)

    async def _turn(self) -> None:
        async with self._door:
            for _ in range(APART):
                await asyncio.sleep(0)

    @contextmanager
    def _room(self, scope: Scope) -> Iterator[None]:
        """For a file, while it is on its way and then among those that are kept. Raises Full if there is none."""
        if scope["method"] != "POST" or not _path(scope).startswith(UPLOAD):
            yield
            return
        with self._uploads.taken(scope[ADDRESS]):
            self._shelve(scope[ADDRESS], int(Headers(scope=scope)["content-length"]))
            yield

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        path = _path(scope)
        if stranger := next((host for host in _asked(scope) if host not in self._hosts), None):
            return _refuse(
                421, f"This app does not answer for the host {stranger[:100]!r}; DDPM_HOSTS says for which it does."
            )
        if path.startswith(CLOSED) or _asks_for_what_is_not_there(path, scope.get("query_string", b"")):
            return _refuse(404, "This page does not exist.")
        if path.startswith(DESCRIPTIONS):
            return self._too_many(scope, DESCRIPTION_COST)
        if scope["method"] != "POST":
            return None
        if _is_foreign(scope):
            return _refuse(403, "This app takes requests from its own pages only, not from those of other sites.")
        if path.startswith(LIMITED) and (refusal := self._too_many(scope)):
            return refusal
        if path.startswith(EVENTS) and (problem := self._full_of_runs(scope[ADDRESS])):
            return _refuse(503, problem)
        return _too_large(Headers(scope=scope).get("content-length", ""), path)

    def _too_many(self, scope: Scope, cost: int = 1) -> JSONResponse | None:
        seconds = self._buckets.wait(scope[ADDRESS], cost)
        if not seconds:
            return None
        wait = math.ceil(seconds)
        about = f"please wait {wait} second{'s' if wait > 1 else ''} and try again."
        return _refuse(429, f"Too many requests come from your address; {about}", {"Retry-After": str(wait)})


def _believed(scope: Scope, limits: Limits) -> list[tuple[bytes, bytes]]:
    """The headers of a request without those of a proxy's that no trusted proxy has sent, and without Gradio's own."""
    peer = (scope.get("client") or ("unknown",))[0]
    dropped = (b"x-gradio-server",) if is_trusted(peer, limits.proxies) else (b"x-gradio-server", *FORWARDED)
    return [(name, value) for name, value in scope["headers"] if name not in dropped]


def _asked(scope: Scope) -> list[str]:
    """The hosts that a request is for, as its client and trusted proxies say."""
    headers = Headers(scope=scope)
    forwarded = ",".join(headers.getlist("x-forwarded-host")).split(",")
    return [*headers.getlist("host"), *(host.strip() for host in forwarded if host.strip())]


def _is_foreign(scope: Scope) -> bool:
    """Whether a page of another site has sent a request: browsers say whose it is."""
    origin = Headers(scope=scope).get("origin")
    return origin is not None and name_of(origin.partition("://")[2]) not in map(name_of, _asked(scope))


def _path(scope: Scope) -> str:
    """What is asked for below the address at which the app stands."""
    return scope["path"].removeprefix(scope.get("root_path", "")).lower()


def _asks_for_what_is_not_there(path: str, query: bytes) -> bool:
    """Whether a query has one of Gradio's parameters that this app's links do not: a state on the disk, a page by name."""
    names = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    return "deep_link" in names or (path in ("", "/") and "page" in names)


def _refuse(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status, headers)


def _too_large(length: str, path: str) -> JSONResponse | None:
    most = next((most for begins, most in MOST_BYTES.items() if path.startswith(begins)), MOST_BODY_BYTES)
    if not (length.isascii() and length.isdigit()):
        return _refuse(411, "A request must say how long it is (Content-Length).")
    if int(length) > most:
        return _refuse(413, f"The request has {int(length):,} bytes; at most {most:,} are allowed.")
    return None


def _secured(send: Send) -> tuple[Send, Callable[[], bool]]:
    """``send`` with the headers of every answer, and whether one has begun."""
    begun = []

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            begun.append(True)
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY)
            if headers.get("content-type", "").startswith(NOT_KEPT):
                headers["Cache-Control"] = "no-store"
                headers.add_vary_header("X-Forwarded-Host, X-Forwarded-Proto")
        await send(message)

    return secured, lambda: bool(begun)


def _in_time(receive: Receive) -> Receive:
    """``receive`` whose body must have come in BODY_SECONDS; what comes after it, the end of the connection, may take long."""
    deadline, whole = time.monotonic() + BODY_SECONDS, False

    async def timely() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            raise HTTPException(408, f"The request took longer than {BODY_SECONDS:g} seconds to arrive.") from error
        whole = not message.get("more_body", False)
        return message

    return timely
