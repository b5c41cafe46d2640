"""What is answered where there is nothing: a page that leads on, or a sentence for a program."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

SENTENCE = "This page does not exist."

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Nothing here but noise</title>
<style>
:root {{ color-scheme: light dark; --ink: #27272a; --paper: #fff; --soft: #5b6270; --line: #e4e4e7; --link: #c2410c; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #f4f4f5; --paper: #0b0f19; --soft: #a9b0bd; --line: #3f3f46; --link: #fb923c; }}
}}
body {{ margin: 0 auto; max-width: 40rem; padding: 10vh 1.5rem; background: var(--paper); color: var(--ink);
  font: 1.1rem/1.5 "Source Sans Pro", ui-sans-serif, system-ui, sans-serif; }}
p {{ color: var(--soft); }}
nav {{ display: flex; flex-wrap: wrap; gap: 0.6rem; }}
a {{ border: 1px solid var(--line); border-radius: 6px; padding: 0.5rem 0.9rem; color: var(--link); text-decoration: none; }}
a:hover, a:focus-visible {{ border-color: currentColor; }}
</style>
<h1>Nothing here but noise</h1>
<p>There is no page at this address. These are the app's:</p>
<nav>{links}</nav>
</html>
"""


def answer_where_nothing_is(pages: Mapping[str, str]):
    """The handler of the status 404, which leads to the ``pages``: their names by their paths, below the app's address."""

    async def answer(request: Request, error: Exception) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        detail = error.detail if isinstance(error, HTTPException) else ""
        if path.startswith("/gradio_api") or "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"detail": SENTENCE if detail in ("", "Not Found") else detail}, 404)
        root = escape(request.scope.get("root_path", ""))
        links = "".join(f'<a href="{root}/{path}">{escape(name)}</a>' for path, name in pages.items())
        return HTMLResponse(PAGE.format(links=links), 404)

    return answer
