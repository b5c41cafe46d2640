"""What stays the same for as long as the app runs, answered from memory: compressed once, and kept by browsers.

Gradio compresses its files anew for everybody and lets no browser keep them; for a class that comes together that takes
the engine's processor for seconds. Packages that serve files compress them beforehand, on the disk, where Gradio's lie
in a folder that is not ours to write.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import brotli
import plotly
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HERE = Path(__file__).parent
_PACKAGE = _HERE.parent
EXAMPLES = _PACKAGE / "examples"

MODULES = {path.relative_to(_PACKAGE).as_posix(): path for path in sorted(_PACKAGE.rglob("*.js"))}
"""The scripts by their paths in the package, which they import each other by."""

PLOTLY, PLOTLY_3D = "plotly-cartesian.min.js", "plotly.min.js"
"""Plotly's bundle for the plots of every page, and the large one for those in space, which a click asks for."""

FILES = {
    PLOTLY: _HERE / "vendor" / f"{PLOTLY}.br",
    PLOTLY_3D: Path(plotly.__file__).parent / "package_data" / PLOTLY_3D,
    "mnist.png": EXAMPLES / "mnist.png",
    "cifar10.png": EXAMPLES / "cifar10.png",
    **MODULES,
}
"""The app's own files by name; those that end in .br are compressed already."""

OWN = "/files/"
"""How the paths of the app's own files begin."""

UNCHANGED = (OWN, "/assets/", "/static/", "/theme.css")
"""How the paths begin of what is kept once somebody has asked for it."""

VERSIONED = ("/assets/", "/theme.css")
"""How the paths begin of those whose name, or query, changes with their content."""

ODD = re.compile(r"//|/\.")
"""In a path that names a file in a roundabout way, of which there are endless ones: what it names is not kept."""

FOREVER, A_DAY, NEVER = "public, max-age=31536000, immutable", "public, max-age=86400", "no-store"
"""For how long a browser may keep an answer: if its address holds a version; if not; if it depends on who asks."""

COMPRESSED = ("text/", "application/javascript", "application/json", "image/svg+xml")
"""How the types begin of what is smaller when compressed."""

MOST_PAGES = 64
"""Pages that are kept, each for every address by which the app is reached; those asked for the longest ago are dropped."""

PAGE_HEADERS = ("host", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port")
"""The headers of a request on which a page depends, which holds its own address."""


class Kept:
    """An answer to everybody: its body, as it is and compressed, each made when it is first asked for."""

    def __init__(self, body: bytes, kind: str, lasts: str, encoding: str = ""):
        self.kind, self.lasts = kind, lasts
        self._encoded = {encoding: body}
        self.etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    def answer(self, request: Headers) -> Response:
        """What is answered to a request with these headers: the body, or that the browser has it already."""
        headers = {"Cache-Control": self.lasts, "Content-Type": self.kind, "Vary": "Accept-Encoding"}
        if self.lasts == NEVER:
            headers["Vary"] += ", " + ", ".join(PAGE_HEADERS)
        else:
            headers["ETag"] = self.etag
            if self.etag in request.get("if-none-match", ""):
                return Response(status_code=304, headers=headers)
        encoding = self._encoding(request)
        if encoding:
            headers["Content-Encoding"] = encoding
        return Response(self._encoded[encoding], headers=headers)

    async def prepare(self, request: Headers) -> None:
        """Makes what ``answer`` needs, in a thread of its own; needed before the first answer of each encoding."""
        if (encoding := self._encoding(request)) not in self._encoded:
            await asyncio.to_thread(self._encode, encoding)

    def _encoding(self, request: Headers) -> str:
        if not self.kind.startswith(COMPRESSED):
            return ""
        offered = [part.partition(";")[0].strip() for part in request.get("accept-encoding", "").split(",")]
        return next((name for name in ("br", "gzip") if name in offered), "")

    def _encode(self, encoding: str) -> None:
        body = self._encoded[""] if "" in self._encoded else brotli.decompress(self._encoded["br"])
        self._encoded[encoding] = ENCODERS[encoding](body)


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda body: body,
    "br": lambda body: brotli.compress(body, quality=5),
    "gzip": lambda body: gzip.compress(body, 6, mtime=0),
}
"""What makes of a body the one of each encoding."""


def address(name: str) -> str:
    """Where a page finds the app's own file ``name``, from the app's address: with a version that its content makes.

    The modules have one version, of all of them: a module finds another by its place beside it.
    """
    version = _modules_version() if name in MODULES else _own(name).etag.strip('"')
    return f"{OWN[1:]}{version[:16]}/{name}"


def mounting(module: Path, given: str = "element, props, trigger, watch") -> str:
    """The script of a component that hands what Gradio has ``given`` it to the function mount of ``module``, one of MODULES.

    Until then nobody can press its buttons; where it cannot be loaded, the page says so.
    """
    where = address(module.relative_to(_PACKAGE).as_posix())
    mount = f"module.mount({{ {given} }}); element.inert = false;"
    failed = "element.inert = false; element.prepend('This part of the page could not be loaded; please reload the page.'); throw error;"
    load = f'import(new URL("{where}", document.baseURI))'
    return f"element.inert = true; {load}.then((module) => {{ {mount} }}, (error) => {{ {failed} }});"


@cache
def _modules_version() -> str:
    return hashlib.sha256(" ".join(name + _own(name).etag for name in MODULES).encode()).hexdigest()


@cache
def _own(name: str) -> Kept:
    path = FILES[name]
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Kept(
        path.read_bytes(),
        kind.replace("text/javascript", "application/javascript"),
        FOREVER,
        "br" * (path.suffix == ".br"),
    )


class Still:
    """Pure ASGI middleware that keeps the answers to requests for files, and for the ``pages``, in memory.

    A page is kept for each address by which the app is reached, whatever its query: that is for the page's own script.
    """

    def __init__(self, app: ASGIApp, pages: frozenset[str]):
        self._app, self._pages = app, pages
        self._files: dict[str, Kept] = {}
        self._seen: OrderedDict[tuple[str | None, ...], Kept] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if scope["type"] != "http" or scope["method"] != "GET":
            return await self._app(scope, receive, send)
        if path.startswith(UNCHANGED) and not ODD.search(path):
            kept = await self._file(path, scope, receive, send)
        elif path.removeprefix("/") in self._pages:
            kept = await self._page(path, scope, receive, send)
        else:
            return await self._app(scope, receive, send)
        if kept:
            request = Headers(scope=scope)
            await kept.prepare(request)
            await kept.answer(request)(scope, receive, send)

    async def _file(self, path: str, scope: Scope, receive: Receive, send: Send) -> Kept | None:
        if path.startswith(OWN) and (name := path[len(OWN) :].partition("/")[2]) in FILES and path[1:] == address(name):
            return _own(name)
        lasts = FOREVER if path.startswith(VERSIONED) else A_DAY
        if path not in self._files and (made := await self._ask(scope, receive, send, lasts)):
            self._files[path] = made
        return self._files.get(path)

    async def _page(self, path: str, scope: Scope, receive: Receive, send: Send) -> Kept | None:
        headers = Headers(scope=scope)
        key = (path, scope.get("scheme"), scope.get("root_path"), *map(headers.get, PAGE_HEADERS))
        if key not in self._seen and (made := await self._ask({**scope, "query_string": b""}, receive, send, NEVER)):
            self._seen[key] = made
            if len(self._seen) > MOST_PAGES:
                self._seen.popitem(last=False)
        if key in self._seen:
            self._seen.move_to_end(key)
        return self._seen.get(key)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, lasts: str) -> Kept | None:
        """What the app answers, if that is to be kept; else, an error for example, it is passed on."""
        plain = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] not in CONDITIONAL]}
        started: list[Message] = []
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(message)
            if started[0]["status"] != 200:
                await send(message)
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))

        await self._app(plain, receive, collect)
        if not started or started[0]["status"] != 200:
            return None
        return Kept(bytes(body), Headers(raw=started[0]["headers"]).get("content-type", ""), lasts)


CONDITIONAL = {b"accept-encoding", b"if-none-match", b"if-modified-since", b"range"}
"""Headers with which the app is not asked, as its answer is for everybody."""
