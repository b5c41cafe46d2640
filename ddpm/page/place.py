"""Where the app is served, as the environment says. Imports nothing of Gradio, which reads these variables at its import."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

NAME, PORT, ROOT = "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_ROOT_PATH"
"""The variables' names, which are Gradio's."""


@dataclass(frozen=True)
class Where:
    """The ``host`` and ``port`` that the app listens at, and the ``root`` below which a proxy shows it: "/path" or ""."""

    host: str = "127.0.0.1"
    port: int = 7860
    root: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Where:
        """What GRADIO_SERVER_NAME, GRADIO_SERVER_PORT and GRADIO_ROOT_PATH say. Raises ValueError, in one sentence, for nonsense."""
        host = environment.get(NAME, "").strip() or cls.host
        port = whole(environment[PORT], PORT, 1, 65535) if PORT in environment else cls.port
        return cls(host.removeprefix("[").removesuffix("]"), port, root_path(environment.get(ROOT, "")))

    @property
    def name(self) -> str:
        """The host as it stands in an address."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def check(self) -> None:
        """Raises ValueError, in one sentence, if nobody can listen there, most often because somebody does."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            socket.create_server((self.host, self.port), family=family).close()
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(
                f"The app cannot be served at {self.name}:{self.port} ({reason}); {NAME} and {PORT} choose another place."
            ) from error


def whole(text: str, name: str, least: int = 1, most: int | None = None) -> int:
    """The whole number that ``text``, the value of the variable ``name``, stands for. Raises ValueError if there is none."""
    if text.isascii() and text.isdigit() and least <= int(text[:20]) <= (most or float("inf")):
        return int(text)
    allowed = f"from {least} to {most}" if most else f"of at least {least}"
    raise ValueError(f"{name} is {text[:40]!r}; it must be a whole number {allowed}.")


def root_path(text: str) -> str:
    """A path below which a proxy shows the app, with a slash before it and none behind. Raises ValueError for anything else.

    An address that begins with http:// or https:// is kept as Gradio takes it.
    """
    text = text.strip().rstrip("/")
    if not text or re.fullmatch(r"https?://[^\s?#]+", text):
        return text
    path = "/" + text.removeprefix("/")
    if re.fullmatch(r"(/[\w.~%-]+)+", path, re.ASCII) and not re.search(r"/\.{1,2}(/|$)", path):
        return path
    raise ValueError(f"{ROOT} is {text[:80]!r}; it must be a path such as /diffusion.")
