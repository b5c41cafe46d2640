"""The map of the code: python scripts/map.py writes docs/map.md from the modules' first sentences, in the order of ROOMS."""

from __future__ import annotations

import ast
from pathlib import Path

import _root  # noqa: F401
from _served import ROOT

from ddpm.files import write_beside

ROOMS = {
    "ddpm": "The mathematics, and what everything stands on. Notebooks import it.",
    "ddpm/training": "How networks are trained.",
    "ddpm/evaluation": "How good their samples are.",
    "ddpm/serving": "What carries out all visitors' jobs; it knows no lesson and no page.",
    "ddpm/page": "What lessons share in the browser.",
    "ddpm/lessons": "The lessons, a folder each; a lesson imports no other lesson.",
}
"""The folders of the code. Each imports only from itself and from those above it."""

APART = {("ddpm/serving", "ddpm/training"), ("ddpm/serving", "ddpm/evaluation"), ("ddpm/page", "ddpm/training")}
"""Those that stand beside each other all the same: the first imports nothing from the second."""

CORE = (
    *(
        "moved",
        "files",
        "streams",
        "schedule",
        "process",
        "exact",
        "networks",
        "denoiser",
        "scaling",
        "sampling",
        "decoding",
        "data",
    ),
    *("toys", "projection", "distances", "settings", "checkpoint", "hub", "machine", "picture", "plots", "command"),
)
"""The modules of the core: each imports only those before it."""


def modules(room: str) -> list[Path]:
    """The modules of ``room``, those of the core in its order."""
    folder = ROOT / room
    if room == "ddpm":
        return [folder / f"{name}.py" for name in CORE]
    return sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")


def sentence(path: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def drawn() -> str:
    """The map as Markdown."""
    parts = [
        "# The map",
        "Made by `python scripts/map.py`. Each folder imports only from itself and from those above it.",
    ]
    for room, about in ROOMS.items():
        lines = [f"| `{path.relative_to(ROOT / room)}` | {sentence(path)} |" for path in modules(room)]
        parts += [f"## `{room}/`\n{about}", "\n".join(["| module | what it is |", "| --- | --- |", *lines])]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    write_beside(ROOT / "docs" / "map.md", drawn().encode())
