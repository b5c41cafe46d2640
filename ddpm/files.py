"""JSON, wherever it is read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MOST_LEVELS = 50
"""Of lists and objects within each other. Nothing of ours has as many, and what walks through a value may not bear more."""


def parse_json(text: str) -> Any:
    """The value of a JSON text, which may begin with a byte order mark. Raises ValueError for anything else."""
    try:
        value = json.loads(text.removeprefix("\ufeff"))
        deep = _is_deep(value)
    except RecursionError:
        deep = True
    if deep:
        raise ValueError(f"The JSON is nested more than {MOST_LEVELS} levels deep")
    return value


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises OSError, or ValueError with the file's name in one sentence."""
    try:
        return parse_json(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file that this program reads ({error}).") from error


def _is_deep(value: Any) -> bool:
    """Whether more than MOST_LEVELS lists and objects stand within each other."""
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        nested = [one for one in level if isinstance(one, (dict, list))]
        level = [inner for one in nested for inner in (one.values() if isinstance(one, dict) else one)]
    return bool(nested)


def write_beside(path: Path, content: bytes) -> None:
    """Writes ``content`` to a file beside ``path`` and renames it, so ``path`` is whole at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
