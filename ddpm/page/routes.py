"""What the app answers beside Gradio's own: the moving file of a run's pictures, and a link as a QR code. It keeps nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from weakref import WeakValueDictionary

import qrcode
from qrcode.image.svg import SvgPathFillImage
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ddpm.page.client import ADDRESS
from ddpm.page.movie import MOST_BYTES, MovieError, movie
from ddpm.page.shares import Full, Places

MOST_EACH, MOST_AT_ONCE, MOST_SECONDS = 4, 24, 60
"""Of the files on their way or being made for one address and in all, and of the time in which the pictures must arrive."""

MOST_LINK = 1000
"""Bytes of a link; the code of a longer one is too fine for a camera at the back of a room."""


def routes(pages: Iterable[str]) -> list[Route]:
    """POST movie/gif?rate=20 and movie/webp answer the PNG pictures in a zip, GET qr?link=… the code as SVG.

    The paths of the ``pages`` with a slash behind lead to those without, whatever the query.
    """
    places, encoder = Places(MOST_EACH, MOST_AT_ONCE), asyncio.Lock()
    turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def make(request: Request) -> Response:
        kind, who = request.path_params["kind"], request.scope.get(ADDRESS, "")
        try:
            rate = float(request.query_params.get("rate", "20"))
            with places.taken(who):
                archive = await asyncio.wait_for(_body(request), MOST_SECONDS)
                turn = turns.setdefault(who, asyncio.Lock())
                # One file at a time, since the visitors' runs need the machine too, and of each address in its turn.
                async with turn, encoder:
                    made = await asyncio.to_thread(movie, archive, kind, rate)
        except Full as full:
            return _refusal(full.status, str(full))
        except MovieError as error:
            return _refusal(422, str(error))
        except ValueError:
            return _refusal(422, "The rate must be a number of pictures a second.")
        except TimeoutError:
            return _refusal(408, f"The pictures did not arrive within {MOST_SECONDS} s.")
        return Response(made, media_type=f"image/{kind}")

    async def code(request: Request) -> Response:
        link = request.query_params.get("link", "")
        if not 1 <= (size := len(link.encode())) <= MOST_LINK:
            return _refusal(422, f"The link has {size:,} bytes; it must have 1 to {MOST_LINK:,}.")
        return Response(await asyncio.to_thread(qr_code, link), media_type="image/svg+xml")

    slashed = [Route(f"/{page}/", without_slash) for page in pages if page]
    return [Route("/movie/{kind}", make, methods=["POST"]), Route("/qr", code), *slashed]


def without_slash(request: Request) -> Response:
    """Leads to the same address without the slash, and says so by where it is, so that it holds below any path."""
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"../{request.url.path.rstrip('/').rpartition('/')[2]}{query}", 307)


def qr_code(text: str) -> bytes:
    """The QR code of ``text`` as SVG: black on white, with its margin."""
    code = qrcode.QRCode(error_correction=qrcode.ERROR_CORRECT_L, image_factory=SvgPathFillImage)
    code.add_data(text)
    return code.make_image().to_string()


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            break  # movie() says so
    return bytes(body)


def _refusal(status: int, sentence: str) -> Response:
    return Response(sentence, status, media_type="text/plain")
